"""Which answers a reviewer is shown: a uniform sample of traffic, or a small set spread over its kinds.

Pure. The caller says which inferences are consented for ``evaluation`` now.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from flywheel.config import LabelsConfig
from flywheel.records import TRAFFIC, Feedback, Inference, Label, Split
from flywheel.review.splits import label_split
from flywheel.text.hashing import unit_interval
from flywheel.text.normalise import normalise


class Other(NamedTuple):
    """An answer that the served one is compared with, and the model that gave it."""

    answer: str
    version: str | None


class QueueItem(NamedTuple):
    """One answer to be judged, and where its label will count.

    Attributes:
        inference: the answer and what was asked.
        split: of its subject.
        origin: how it was drawn.
        other: of a comparison, the other answer.
        said: what annotators said, for an adjudicator; nobody else sees it.
        why: why this answer is asked about, for the reviewer.
    """

    inference: Inference
    split: Split
    origin: Literal["random", "curated"]
    other: Other | None = None
    said: tuple[Label, ...] = ()
    why: str = ""


def random_queue(
    inferences: Iterable[Inference],
    *,
    consented: Collection[str],
    config: LabelsConfig,
    seed: int,
    decided: Mapping[str, Split] | None = None,
    done: Collection[str] = (),
    wanted: Mapping[Split, int] | None = None,
) -> list[QueueItem]:
    """A uniform random sample of consented traffic, in the order it should be labelled.

    The order is that of a seeded hash of the inference id: whoever stops after n labels has a uniform
    sample of n, and a queue built again later continues where this one stopped.

    Args:
        inferences: candidates; rows without text or without an answer are passed over.
        consented: ids that may be used for evaluation now.
        config: shares of the splits; subjects outside all of them are never shown.
        seed: the flow's seed.
        decided: splits of subjects that have labels (``review.labels.read_splits``).
        done: ids that carry a *random* label already. An answer that was only judged for the starter set
            stays in: leaving it out would bend the sample away from what a curator picks.
        wanted: at most so many items of each split; none: all.

    Returns:
        Items, first to be labelled first.
    """
    items = usable(inferences, consented=consented, config=config, seed=seed, decided=decided)
    fresh = [item for item in items if item.inference.inference_id not in done]
    ordered = sorted(fresh, key=lambda item: place("label-queue", seed, item))
    return ordered if wanted is None else _limit(ordered, dict(wanted))


def starter_set(
    inferences: Iterable[Inference],
    feedback: Iterable[Feedback],
    *,
    consented: Collection[str],
    config: LabelsConfig,
    seed: int,
    decided: Mapping[str, Split] | None = None,
    done: Collection[str] = (),
) -> list[QueueItem]:
    """The curated set made before the first training: ``config.starter_set`` answers of many kinds.

    One answer of each (reaction, answer) kind in turn, rare kinds as soon as frequent ones, so that a
    reviewer meets every habit of the model early. Not a random sample: it never enters the primary suite.
    """
    reactions = _reactions(feedback)
    strata: dict[tuple[str, str], list[QueueItem]] = defaultdict(list)
    for item in usable(inferences, consented=consented, config=config, seed=seed, decided=decided):
        row = item.inference
        kind = (reactions.get(row.inference_id, "none"), normalise(row.choices[row.choice_served]))
        strata[kind].append(item._replace(origin="curated"))
    for items in strata.values():
        items.sort(key=lambda item: place("starter-set", seed, item))
    kinds = sorted(strata, key=lambda kind: unit_interval("starter-kind", str(seed), *kind))
    chosen = _round_robin([strata[kind] for kind in kinds], config.starter_set)
    return [item for item in chosen if item.inference.inference_id not in done]


def usable(
    inferences: Iterable[Inference],
    *,
    consented: Collection[str],
    config: LabelsConfig,
    seed: int,
    decided: Mapping[str, Split] | None = None,
) -> Iterator[QueueItem]:
    """Every answer that may be judged, with its split: consented traffic with text, of subjects in a split."""
    allowed = frozenset(consented)
    for row in inferences:
        if row.inference_id not in allowed or row.traffic_kind not in TRAFFIC:
            continue
        if not row.messages or not 0 <= row.choice_served < len(row.choices):
            continue
        split = label_split(row.subject, config, seed, decided)
        if split is not None:
            yield QueueItem(row, split, "random")


def place(purpose: str, seed: int, item: QueueItem) -> tuple[float, str]:
    """Sorts items by a seeded hash, another order for each purpose."""
    identity = item.inference.inference_id
    return unit_interval(purpose, str(seed), identity), identity


def _limit(items: Sequence[QueueItem], left: dict[Split, int]) -> list[QueueItem]:
    chosen = []
    for item in items:
        if left.get(item.split, 0) > 0:
            left[item.split] -= 1
            chosen.append(item)
    return chosen


def _round_robin(strata: list[list[QueueItem]], size: int) -> list[QueueItem]:
    chosen: list[QueueItem] = []
    depth = 0
    while len(chosen) < size and any(len(items) > depth for items in strata):
        chosen.extend(items[depth] for items in strata if len(items) > depth)
        depth += 1
    return chosen[:size]


def _reactions(feedback: Iterable[Feedback]) -> dict[str, str]:
    """Strongest reaction to each inference: a correction, else a thumb or rating's sign."""
    found: dict[str, str] = {}
    for event in feedback:
        if event.kind == "correction":
            found[event.inference_id] = "corrected"
        elif event.kind in {"thumbs", "rating"} and event.value is not None:
            middle = 0 if event.kind == "thumbs" else 3
            found.setdefault(event.inference_id, "liked" if event.value > middle else "disliked")
    return found
