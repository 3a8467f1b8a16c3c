"""What several people said about one answer: where they agree, where they do not, and which label counts. Pure.

People are asked three questions about an answer: is it right (accept, correct, reject), how good is it (rate), and
is it better than another (compare). Each question is settled by itself. Where annotators disagree nothing counts
until somebody adjudicates; then that label alone does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, NamedTuple

from flywheel.records import Label
from flywheel.text.answers import answer_key

Question = Literal["judge", "rate", "compare"]
RATING_SLACK: Final = 1
"""Ratings this far apart are still the same opinion."""


class Matter(NamedTuple):
    """One question about one answer; of a comparison also the answer that it was compared with."""

    inference_id: str
    question: Question
    other_answer: str | None = None


@dataclass(frozen=True)
class Opinions:
    """What was said about one matter: each annotator's latest label, oldest first, and the adjudicator's."""

    said: tuple[Label, ...]
    ruling: Label | None = None

    @property
    def disputed(self) -> bool:
        """Whether annotators disagree, settled or not."""
        return _disagree(self.said)

    @property
    def open(self) -> bool:
        """Whether somebody has to adjudicate."""
        return self.disputed and self.ruling is None

    @property
    def counts(self) -> Label | None:
        """The label that counts: the adjudicator's, else where all agree the latest that says most; else none."""
        if self.ruling is not None or self.disputed:
            return self.ruling
        return next((label for label in reversed(self.said) if label.correction is not None), self.said[-1])


def question_of(label: Label) -> Question:
    """Which question a label answers."""
    return label.kind if label.kind in ("rate", "compare") else "judge"


def matter_of(label: Label) -> Matter:
    """What a label is about."""
    return Matter(label.inference_id, question_of(label), label.other_answer)


def current(labels: Iterable[Label]) -> list[Label]:
    """Each annotator's latest word on each matter, by time. A ruling does not replace what its author said before."""
    latest = {(matter_of(label), label.annotator, label.adjudicates): label for label in sorted(labels, key=age)}
    return sorted(latest.values(), key=age)


def opinions(labels: Iterable[Label]) -> dict[Matter, Opinions]:
    """Labels by matter, in the order in which matters were first spoken about."""
    said: dict[Matter, list[Label]] = defaultdict(list)
    for label in current(labels):
        said[matter_of(label)].append(label)
    return {
        matter: Opinions(
            tuple(label for label in some if not label.adjudicates),
            next((label for label in reversed(some) if label.adjudicates), None),
        )
        for matter, some in said.items()
    }


def counting(labels: Iterable[Label]) -> list[Label]:
    """The one label that counts of each matter, none of what is disputed still; in the order of the matters."""
    return [one.counts for one in opinions(labels).values() if one.counts is not None]


def open_disputes(labels: Iterable[Label], question: Question = "judge") -> set[str]:
    """Inference ids of answers about which a question waits for an adjudicator."""
    return {matter.inference_id for matter, one in opinions(labels).items() if matter.question == question and one.open}


def says_right(label: Label) -> bool | None:
    """Whether a label says that the served answer is right; None: it does not say.

    A rating says so from 4 up and denies it from 2 down. A comparison never does: the better answer may be wrong too.
    """
    if label.kind == "rate":
        return None if label.value is None or label.value == 3 else label.value > 3
    return None if label.kind == "compare" else label.kind == "accept"


def expected_answer(label: Label, served: str) -> str | None:
    """What a label says should have been answered; None for one that only says how good the served answer was."""
    if label.kind == "correct":
        return label.correction
    return served if label.kind == "accept" else None


def age(label: Label) -> tuple[datetime, str]:
    """Sorts labels by time, those of the same moment by id."""
    return label.ts, label.label_id


def _disagree(labels: tuple[Label, ...]) -> bool:
    values = [label.value for label in labels if label.value is not None]
    if labels and labels[0].kind == "rate":
        return max(values, default=0) - min(values, default=0) > RATING_SLACK
    if labels and labels[0].kind == "compare":
        return len(set(values)) > 1
    right = {label.kind == "accept" for label in labels}
    corrections = {answer_key(label.correction) for label in labels if label.correction is not None}
    return len(right) > 1 or len(corrections) > 1
