"""One network, a head for each action; the score weighs the predicted actions as a heavy ranker does.

The published weights of a large feed's ranker (X, "the-algorithm", heavy ranker, 2023) give a like 0.5, a reply 13.5,
"show less" -74 and a report -369: what is rare and hostile says most. Ours are settings.

Prompt and answer become hashed counts of words and pairs of words; a shared layer feeds a logistic head an action.
Heads learn from the answers that were served, and only where their action could have been seen. Plain torch on one
thread: the same rows give the same weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flywheel.config import EngagementSignalConfig
from flywheel.quality.folds import Folds
from flywheel.quality.rows import Candidate, prompt_text
from flywheel.quality.signals.reactions import watched

LIKED_FROM, DISLIKED_TO = 4.0, 2.0
"""Ratings, of 1 to 5."""
BATCH = 64
RATE = 1e-2

Floats = NDArray[np.float32]


def actions(row: Candidate) -> dict[str, bool]:
    """Action -> whether it happened to the served answer; actions that could not have been seen are left out."""
    seen = row.evidence
    found: dict[str, bool] = {}
    if watched(seen):
        found |= {
            "copy": seen.copies > 0, "click": seen.clicks > 0, "completion": seen.completions > 0,
            "abandonment": seen.abandons > 0, "reprompt": seen.reprompts > 0,
        }  # fmt: skip
    rated = seen.rating
    if seen.up or seen.down or rated is not None or row.origin == "correction":
        found["liked"] = seen.up > 0 or (rated is not None and rated >= LIKED_FROM)
        found["disliked"] = seen.down > 0 or (rated is not None and rated <= DISLIKED_TO) or row.origin == "correction"
    return found


def cross_fit(rows: Sequence[Candidate], folds: Folds, config: EngagementSignalConfig, seed: int) -> dict[str, float]:
    """Score of every row's target by a network that saw neither its people nor its near-duplicates.

    In [-1, 1]: the weighted sum of probabilities over the sum of the weights' sizes. Empty where a fold has too few
    rows that people reacted to, or none of two outcomes.
    """
    seen = [actions(row) for row in rows]
    heads = sorted({name for one in seen for name in one} & config.weights.keys())
    served = _features([prompt_text(row.messages) for row in rows], [row.answer for row in rows], config.features)
    asked = _features([prompt_text(row.messages) for row in rows], [row.target for row in rows], config.features)
    labels = np.array([[float(one.get(name, False)) for name in heads] for one in seen], dtype=np.float32)
    known = np.array([[float(name in one) for name in heads] for one in seen], dtype=np.float32)
    found: dict[str, float] = {}
    for fold, train in enumerate(folds.train):
        learnt = [index for index in train if seen[index]]
        held = [index for index, own in enumerate(folds.score) if own == fold]
        if len(learnt) < config.min_rows or not held:
            continue
        shares = _fit(served[learnt], labels[learnt], known[learnt], asked[held], config=config, seed=seed + fold)
        usable = learnable(labels[learnt], known[learnt])
        if usable.any():
            scores = weighted(shares, heads, usable, config.weights)
            found.update({rows[index].inference_id: float(score) for index, score in zip(held, scores, strict=True)})
    return found


def learnable(labels: Floats, known: Floats) -> NDArray[np.bool_]:
    """Heads whose action both happened and did not."""
    happened = (labels * known).sum(axis=0)
    return (happened > 0) & (happened < known.sum(axis=0))


def weighted(
    shares: Floats, heads: Sequence[str], usable: NDArray[np.bool_], weights: Mapping[str, float]
) -> NDArray[np.float64]:
    """Sum of weight times probability over the heads that could be learnt, over the sum of the weights' sizes."""
    own = np.array([weights[name] for name in heads]) * usable
    return shares.astype(np.float64) @ own / np.abs(own).sum()


def _features(prompts: Sequence[str], answers: Sequence[str], count: int) -> Any:
    """Sparse rows, unit length: prompt and answer in halves of their own, so that a word in both is two features."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import HashingVectorizer

    half = HashingVectorizer(n_features=count // 2, ngram_range=(1, 2), alternate_sign=False)
    return hstack([half.transform(prompts), half.transform(answers)]).tocsr()


def _fit(
    features: Any, labels: Floats, known: Floats, asked: Any, *, config: EngagementSignalConfig, seed: int
) -> Floats:
    """Train on ``features``; probabilities (rows, heads) of ``asked``."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    network = torch.nn.Sequential(
        torch.nn.Linear(features.shape[1], config.hidden),
        torch.nn.ReLU(),
        torch.nn.Linear(config.hidden, labels.shape[1]),
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.01)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(config.epochs):
        order = torch.randperm(features.shape[0], generator=generator).numpy()
        for start in range(0, len(order), BATCH):
            some = order[start : start + BATCH]
            logits = network(torch.from_numpy(features[some].toarray().astype(np.float32)))
            losses = torch.nn.functional.binary_cross_entropy_with_logits(
                logits, torch.from_numpy(labels[some]), reduction="none"
            )
            mask = torch.from_numpy(known[some])
            optimizer.zero_grad()
            ((losses * mask).sum() / mask.sum().clamp(min=1)).backward()
            optimizer.step()
    with torch.inference_mode():
        parts = [
            network(torch.from_numpy(asked[start : start + 1024].toarray().astype(np.float32))).sigmoid().numpy()
            for start in range(0, asked.shape[0], 1024)
        ]
    return np.concatenate(parts)
