"""What a reviewer is asked: the queue over the lake as it is now."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Literal

from flywheel.capture.consent import consented_ids
from flywheel.config import FlywheelConfig
from flywheel.errors import NotFoundInLakeError
from flywheel.evaluation.cases import slice_of
from flywheel.lake.tables import Lake
from flywheel.records import Consent, Feedback, Inference, Purpose, ShadowPair, Split, utcnow
from flywheel.review.compare import find_others, with_other
from flywheel.review.informative import informative_queue
from flywheel.review.labels import read_labels, read_splits
from flywheel.review.queue import QueueItem, random_queue, starter_set, usable
from flywheel.review.second import dispute_queue, second_queue
from flywheel.review.settle import Question, question_of

Source = Literal["random", "starter", "informative", "second", "adjudicate"]


def queue(
    lake: Lake,
    config: FlywheelConfig,
    *,
    source: Source = "random",
    question: Question = "judge",
    annotator: str = "",
    wanted: Mapping[Split, int] | None = None,
) -> list[QueueItem]:
    """Answers to be judged, first to be judged first; only those consented for evaluation.

    Args:
        lake: the lake.
        config: the flow, its splits and seed.
        source: a random sample; the starter set (``labels.starter_set`` answers of many kinds); the informative
            queue; what others judged; what others disagree about.
        question: what is asked about each answer.
        annotator: who is asked; only ``second`` needs it.
        wanted: of a random sample, at most so many of each split.
    """
    inferences = lake.records("inferences", Inference, flow=config.flow)
    allowed = allowed_now(lake, config.flow, inferences)
    labels = read_labels(lake, config.flow)
    decided = read_splits(lake, config.flow)
    items = list(usable(inferences, consented=allowed, config=config.labels, seed=config.seed, decided=decided))
    if source == "second":
        return second_queue(items, labels, annotator=annotator, question=question, seed=config.seed)
    if source == "adjudicate":
        return dispute_queue(items, labels, question=question, seed=config.seed)
    about = [label for label in labels if question_of(label) == question]
    if source == "starter":
        feedback = lake.records("feedback", Feedback, flow=config.flow)
        items = starter_set(
            inferences, feedback, consented=allowed, config=config.labels, seed=config.seed, decided=decided,
            done={label.inference_id for label in about},
        )  # fmt: skip
    elif source == "informative":
        items = informative_queue(
            items, labels=labels, feedback=lake.records("feedback", Feedback, flow=config.flow),
            rewards=_rewards(lake, config), slicer=_slice, seed=config.seed,
        )  # fmt: skip
    else:
        drawn = {label.inference_id for label in about if label.origin == "random"}
        items = random_queue(
            inferences, consented=allowed, config=config.labels, seed=config.seed, decided=decided, done=drawn,
            wanted=wanted,
        )  # fmt: skip
    if question != "compare":
        return items
    pairs = lake.records("shadow_pairs", ShadowPair, flow=config.flow)
    return with_other(items, find_others(inferences, pairs), config.seed)


def allowed_now(lake: Lake, flow: str, inferences: list[Inference], purpose: Purpose = "evaluation") -> set[str]:
    """Inference ids that may be used for a purpose now."""
    return consented_ids(inferences, lake.records("consents", Consent, flow=flow), purpose, utcnow())


def _slice(row: Inference) -> str:
    return slice_of(row, row.choices[row.choice_served]) or "other"


def _rewards(lake: Lake, config: FlywheelConfig) -> dict[str, float]:
    """The reward model's preference for each served answer that the newest turn scored, in [0, 1]."""
    scores = [key for key in lake.store.list(f"turns/{config.flow}/") if key.endswith("-score.json")]
    if not scores:
        return {}
    from flywheel.quality.score import ScoreResult, read_signals

    artifact = json.loads(lake.store.get(max(scores)))
    artifact.pop("seconds", None)
    found: dict[str, float] = {}
    try:
        signals = read_signals(lake, config, ScoreResult.model_validate(artifact))
    except NotFoundInLakeError:  # somebody was erased since: the next turn scores again
        return {}
    for inference_id, row in signals.items():
        liked, margin = row.get("liked_percentile"), row.get("reward_margin")
        if liked is not None:
            found[inference_id] = liked
        elif margin is not None:  # log-odds that the user's correction beats the served answer
            found[inference_id] = 1 / (1 + math.exp(min(50.0, margin)))
    return found
