"""What both formats share: the slip that travels with an item, and the judgement that comes back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

from flywheel.review.keys import Given
from flywheel.review.queue import QueueItem
from flywheel.review.settle import Question

CORRECTION: Final = "correction"
VERDICT: Final = "verdict"
RATING: Final = "rating"
BETTER: Final = "better"
VERDICTS: Final = ("accept", "correct", "reject")


class FormatProblem(Exception):  # noqa: N818  (told as a reject, not raised to the user)
    """A record cannot be read: its field and the reason, neither of which repeats the record's text."""

    def __init__(self, where: str, reason: str) -> None:
        self.field, self.reason = where, reason
        super().__init__(f"{where}: {reason}")


class Slip(NamedTuple):
    """What travels with an item and comes back with it."""

    flow: str
    question: Question
    guideline_version: str
    served_first: bool = True
    """Of a comparison. It does not travel: readers see it from the texts, so that nobody else does from the file."""

    def fields(self, item: QueueItem) -> dict[str, str]:
        """The slip as plain texts."""
        return {
            "inference_id": item.inference.inference_id,
            "flow": self.flow,
            "question": self.question,
            "origin": item.origin,
            "guideline_version": self.guideline_version,
        }


class Annotation(NamedTuple):
    """One judgement of one person. ``ts`` is None where the tool does not say when."""

    item: QueueItem
    annotator: str
    given: Given
    origin: Literal["random", "curated"]
    guideline_version: str
    other_answer: str | None = None
    ts: datetime | None = None
    seconds: float | None = None


@dataclass
class Reading:
    """What a reader needs besides the file: the flow's items by inference id, and a name for who has none.

    ``ignored`` counts what the file held and a label has no place for.
    """

    flow: str
    items: Mapping[str, QueueItem]
    annotator: str | None = None
    guideline_version: str = "1"
    ignored: Counter[str] = field(default_factory=Counter[str])

    def item(self, slip: Mapping[str, Any], where: str) -> QueueItem:
        """The item that a slip names.

        Raises:
            FormatProblem: it is none of this flow, or may not be judged.
        """
        if slip.get("flow") not in (None, self.flow):
            raise FormatProblem(f"{where}.flow", "is another flow's")
        item = self.items.get(str(slip.get("inference_id")))
        if item is None:
            raise FormatProblem(f"{where}.inference_id", "names no answer of this flow that may be judged now")
        return item

    def who(self, name: object, tool: str, where: str) -> str:
        """The annotator: as the tool names them, else as the caller does."""
        known = None if name in (None, "", "None") else str(name)
        if known is None and self.annotator is None:
            raise FormatProblem(where, "names nobody; say who with --annotator NAME")
        return self.annotator or (known if known and "@" in known else f"{tool}-{known}")

    def made(self, item: QueueItem, slip: Mapping[str, Any], annotator: str, given: Given, **rest: Any) -> Annotation:
        """An annotation with what the slip says."""
        origin = "random" if slip.get("origin") == "random" else "curated"
        version = str(slip.get("guideline_version") or self.guideline_version)
        return Annotation(item, annotator, given, origin, version, **rest)


def served(item: QueueItem) -> str:
    """The answer that was served."""
    return item.inference.choices[item.inference.choice_served]


def both(item: QueueItem, slip: Slip) -> tuple[str, str]:
    """The two answers of a comparison, as they are shown."""
    other = item.other.answer if item.other else ""
    return (served(item), other) if slip.served_first else (other, served(item))


def judged(choice: object, text: str | None, item: QueueItem, where: str) -> Given | None:
    """A verdict and the text of the correction field, which began as the served answer; None: nothing was said.

    Raises:
        FormatProblem: the two contradict each other, or the choice is unknown.
    """
    text = (text or "").strip()
    changed = text if text and text != served(item).strip() else None
    if choice is None:
        return Given("correct", changed) if changed else None
    if choice not in VERDICTS:
        raise FormatProblem(where, f"must be one of {', '.join(VERDICTS)}")
    if choice == "accept" and changed:
        raise FormatProblem(where, "accepts the answer and corrects it")
    if choice == "correct" and not changed:
        raise FormatProblem(where, "says that the answer is corrected, and it is not")
    return Given("correct", changed) if changed else Given("reject" if choice == "reject" else "accept")


def rated(value: object, where: str) -> Given:
    """A rating.

    Raises:
        FormatProblem: it is not 1 to 5.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or value not in (1, 2, 3, 4, 5):
        raise FormatProblem(where, "must be 1, 2, 3, 4 or 5")
    return Given("rate", value=float(value))


def compared(choice: object, shown: Mapping[str, Any], item: QueueItem, where: str) -> tuple[Given, str]:
    """Which answer is better, and the other answer.

    Args:
        choice: first, second or tie.
        shown: the record's texts, ``first`` and ``second``.
        item: whose served answer is one of them.
        where: the field, for a problem.

    Raises:
        FormatProblem: the choice is unknown, or neither answer is the served one.
    """
    first, second, mine = shown.get("first"), shown.get("second"), served(item)
    if choice not in ("first", "second", "tie"):
        raise FormatProblem(where, "must be first, second or tie")
    if not isinstance(first, str) or not isinstance(second, str) or mine not in (first, second):
        raise FormatProblem("first", "neither answer is the one that was served")
    better = 0.0 if choice == "tie" else 1.0 if (choice == "first") == (first == mine) else -1.0
    return Given("compare", value=better), second if first == mine else first
