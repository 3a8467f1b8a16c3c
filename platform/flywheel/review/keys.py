"""What each key means, question by question: a key and an item -> what the reviewer said. Pure but for typed lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from flywheel.records import LabelKind
from flywheel.review.queue import QueueItem
from flywheel.review.settle import Question

KEYS: Final[dict[Question, dict[str, str]]] = {
    "judge": {"a": "accept", "c": "correct", "r": "reject"},
    "rate": {"1": "bad", "2": "poor", "3": "fair", "4": "good", "5": "best"},
    "compare": {"1": "is better", "2": "is better", "t": "tie"},
}
ALWAYS: Final = {"s": "skip", "u": "undo", "?": "guide", "q": "quit"}


class Given(NamedTuple):
    """A judgement, as the fields of a label."""

    kind: LabelKind
    correction: str | None = None
    value: float | None = None


def keys_of(question: Question, item: QueueItem) -> dict[str, str]:
    """The keys that judge this item, and their names; an adjudicator of verdicts can also take one that was given."""
    adopt = {str(number): "take it" for number in range(1, len(item.said[:9]) + 1)} if question == "judge" else {}
    return {**adopt, **KEYS[question]}


def given(
    question: Question, key: str, item: QueueItem, *, served_first: bool, read_line: Callable[[str], str]
) -> Given | None:
    """What a key of ``keys_of`` says; None: a correction was wanted and nothing was typed.

    Args:
        question: which keys hold.
        key: one of them.
        item: what is judged.
        served_first: of a comparison: whether the first answer on the screen is the served one.
        read_line: asks for a line of text that starts as the served answer.
    """
    if question == "rate":
        return Given("rate", value=float(key))
    if question == "compare":
        better = 0.0 if key == "t" else 1.0 if (key == "1") == served_first else -1.0
        return Given("compare", value=better)
    if key.isdigit():
        taken = item.said[int(key) - 1]
        return Given(taken.kind, taken.correction)
    return Given("reject") if key == "r" else _verdict(key, item, read_line)


def _verdict(key: str, item: QueueItem, read_line: Callable[[str], str]) -> Given | None:
    served = item.inference.choices[item.inference.choice_served]
    text = served if key == "a" else read_line(served).strip()
    if not text and key == "c":
        return None
    return Given("accept") if text.strip() == served.strip() else Given("correct", text)
