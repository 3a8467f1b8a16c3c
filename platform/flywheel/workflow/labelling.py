"""What a reviewer is asked: the queue over the lake as it is now."""

from __future__ import annotations

from collections.abc import Mapping

from flywheel.capture.consent import consented_ids
from flywheel.config import FlywheelConfig
from flywheel.lake.tables import Lake
from flywheel.records import Consent, Feedback, Inference, Split, utcnow
from flywheel.review.labels import read_labels
from flywheel.review.queue import QueueItem, random_queue, starter_set


def queue(
    lake: Lake, config: FlywheelConfig, *, curated: bool = False, wanted: Mapping[Split, int] | None = None
) -> list[QueueItem]:
    """Answers to be judged, first to be judged first; only those consented for evaluation.

    Args:
        lake: the lake.
        config: the flow, its splits and seed.
        curated: the starter set (``labels.starter_set`` answers of many kinds) instead of a random sample.
        wanted: of a random sample, at most so many of each split.
    """
    inferences = lake.records("inferences", Inference, flow=config.flow)
    consents = lake.records("consents", Consent, flow=config.flow)
    allowed = consented_ids(inferences, consents, "evaluation", utcnow())
    labels = read_labels(lake, config.flow)
    if curated:
        feedback = lake.records("feedback", Feedback, flow=config.flow)
        return starter_set(
            inferences,
            feedback,
            consented=allowed,
            config=config.labels,
            seed=config.seed,
            done={label.inference_id for label in labels},
        )
    drawn = {label.inference_id for label in labels if label.origin == "random"}
    return random_queue(
        inferences, consented=allowed, config=config.labels, seed=config.seed, done=drawn, wanted=wanted
    )
