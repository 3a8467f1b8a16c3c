"""Second looks: answers that somebody else judged already, and those on which two people disagree. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from flywheel.records import Label
from flywheel.review.queue import Other, QueueItem, place
from flywheel.review.settle import Matter, Opinions, Question, opinions


def second_queue(
    items: Iterable[QueueItem], labels: Sequence[Label], *, annotator: str, question: Question, seed: int
) -> list[QueueItem]:
    """Answers that others judged and this annotator did not, in a seeded order; what they said is not shown.

    Args:
        items: what may be judged now (``review.queue.usable``).
        labels: the labels that hold now.
        annotator: who is asked.
        question: of several questions about one answer, this one.
        seed: the flow's seed.
    """
    asked = [
        found
        for found in _matters(items, labels, question)
        if found[1].ruling is None and annotator not in {label.annotator for label in found[1].said}
    ]
    return sorted((item for item, _ in asked), key=lambda item: place("second-look", seed, item))


def dispute_queue(
    items: Iterable[QueueItem], labels: Sequence[Label], *, question: Question, seed: int
) -> list[QueueItem]:
    """Answers on which annotators disagree and nobody adjudicated, with what was said; arguments as above."""
    found = [item._replace(said=one.said) for item, one in _matters(items, labels, question) if one.open]
    return sorted(found, key=lambda item: place("adjudication", seed, item))


def _matters(
    items: Iterable[QueueItem], labels: Sequence[Label], question: Question
) -> Iterable[tuple[QueueItem, Opinions]]:
    by_id = {item.inference.inference_id: item for item in items}
    for matter, one in opinions(labels).items():
        item = by_id.get(matter.inference_id)
        if item is not None and matter.question == question and one.said:
            yield item._replace(origin=_origin(one), other=_other(matter, one)), one


def _origin(one: Opinions) -> Literal["random", "curated"]:
    """A second label of a randomly drawn answer belongs to the random sample as the first does."""
    return "random" if any(label.origin == "random" for label in one.said) else "curated"


def _other(matter: Matter, one: Opinions) -> Other | None:
    return None if matter.other_answer is None else Other(matter.other_answer, one.said[0].other_version)
