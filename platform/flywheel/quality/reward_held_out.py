"""What a fold's model is judged on: choices it never saw, beside baselines that learnt from the same rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from flywheel.quality.reward_baselines import longer, tfidf
from flywheel.quality.reward_choice import Choice, prompt_of
from flywheel.quality.reward_data import Kind
from flywheel.quality.reward_report import HeldOut
from flywheel.text.hashing import stable_hash

MOST = 500
"""Choices of a fold that are judged, drawn by hash: enough for an interval of a few points."""
BATCH = 32


@dataclass(frozen=True)
class Unseen:
    """A choice that the fold did not learn from; ``kinds`` names each alternative in turn."""

    choice: Choice
    kinds: list[Kind]
    slices: dict[str, str] = field(default_factory=dict)


def judge(
    score: Callable[[Sequence[Choice]], list[list[float]]],
    unseen: Sequence[Unseen],
    learnt: Sequence[Choice],
    fold: int,
) -> list[HeldOut]:
    """Pairs of the chosen answer with every alternative; ties, and the outside option (no baseline), are out."""
    paired = [
        one for one in unseen if one.choice.outside is None and one.choice.share > 0.5 and len(one.choice.answers) > 1
    ]
    if not paired:
        return []
    paired.sort(key=lambda one: (stable_hash(prompt_of(one.choice), *one.choice.answers), one.choice.answers))
    paired = sorted(paired[:MOST], key=lambda one: (_size(one.choice), one.choice.answers))
    rewards: list[list[float]] = []
    for start in range(0, len(paired), BATCH):
        rewards += score([one.choice for one in paired[start : start + BATCH]])
    texts = [(one.choice.answers[0], other) for one in paired for other in one.choice.answers[1:]]
    known = [(choice.answers[0], other) for choice in learnt if choice.outside is None for other in choice.answers[1:]]
    baselines = {"longer": longer(texts), "tfidf": tfidf(known, texts)}
    flat = [(one, own, place) for one, own in zip(paired, rewards, strict=True) for place in range(1, len(own))]
    return [
        HeldOut(
            fold=fold, prompt=f"{stable_hash(prompt_of(one.choice)):016x}", kind=one.kinds[place - 1],
            margin=round(own[0] - own[place], 5), weight=one.choice.weight / (len(own) - 1), slices=one.slices,
            baselines={name: round(float(np.asarray(values)[row]), 5) for name, values in baselines.items()},
        )
        for row, (one, own, place) in enumerate(flat)
    ]  # fmt: skip


def _size(choice: Choice) -> int:
    return len(prompt_of(choice)) + max(map(len, choice.answers))
