"""``flywheel label``: one answer at a time, one key each, every label durable before the next is shown."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from rich.console import Console

from flywheel.errors import UsageError
from flywheel.lake.tables import Lake
from flywheel.records import Label, LabelKind
from flywheel.review.compare import served_first
from flywheel.review.guideline import Guideline, keep_guideline
from flywheel.review.keyboard import Keyboard
from flywheel.review.keys import Given, given, keys_of
from flywheel.review.labels import add_labels, make_label, read_labels, retract, skip, skipped, unskip
from flywheel.review.queue import QueueItem
from flywheel.review.screen import show_guideline, show_item
from flywheel.review.settle import Question, question_of

_DONE: Final[dict[LabelKind, str]] = {
    "accept": "accepted", "correct": "corrected", "reject": "rejected", "rate": "rated", "compare": "compared",
}  # fmt: skip


@dataclass
class LabelReport:
    """What one sitting brought."""

    labelled: Counter[LabelKind] = field(default_factory=Counter[LabelKind])
    skipped: int = 0
    undone: int = 0
    left: int = 0
    seconds: float = 0.0

    def summary(self) -> str:
        """One line for a person."""
        said = [f"{count} {_DONE[kind]}" for kind, count in self.labelled.items() if count]
        return ", ".join([*said, f"{self.skipped} skipped", f"{self.left} left"])


@dataclass
class LabelSession:
    """The state of one sitting: a cursor over the queue and what was done so far (None: a skip), for undo.

    ``read_key`` and ``read_line`` are the keyboard; tests may hand in their own.
    """

    lake: Lake
    flow: str
    annotator: str
    items: Sequence[QueueItem]
    console: Console
    read_key: Callable[[], str]
    read_line: Callable[[str], str]
    question: Question = "judge"
    guideline: Guideline = field(default_factory=Guideline)
    seed: int = 0
    report: LabelReport = field(default_factory=LabelReport)
    position: int = 0
    done: list[tuple[int, Label | None]] = field(default_factory=list)

    def run(self) -> LabelReport:
        """Show items until the queue ends or the reviewer quits."""
        try:
            while self.position < len(self.items) and self._item():
                pass
        except KeyboardInterrupt:  # pressed while a label was being stored or an item drawn
            self.console.print()
        self.report.left = len(self.items) - self.position
        return self.report

    def _item(self) -> bool:
        """Show one item and deal with it; False: the reviewer quits."""
        item = self.items[self.position]
        show_item(
            self.console,
            item,
            heading=f"{self.position + 1} of {len(self.items)} · {item.split}",
            question=self.question,
            served_first=served_first(item, self.seed),
        )
        started = time.monotonic()
        try:
            return self._answer(item, started)
        finally:
            self.report.seconds += time.monotonic() - started

    def _answer(self, item: QueueItem, started: float) -> bool:
        """Read keys until the item is dealt with; False: the reviewer quits."""
        others = {"s": self._skip, "u": self._undo, "?": self._explain}
        while True:
            key = self.read_key().lower()
            if key in {"q", "\x03", "\x04"}:
                return False
            if (key in others and others[key]()) or (
                key in keys_of(self.question, item) and self._judge(item, key, started)
            ):
                return True

    def _judge(self, item: QueueItem, key: str, started: float) -> bool:
        said = given(self.question, key, item, served_first=served_first(item, self.seed), read_line=self.read_line)
        if said is None:
            self.console.print("[yellow]Nothing typed; the answer is still open.[/yellow]")
            return False
        self._save(item, said, started)
        self.report.labelled[said.kind] += 1
        return True

    def _skip(self) -> bool:
        skip(self.lake, self.flow, self.annotator, self.items[self.position].inference.inference_id)
        self.done.append((self.position, None))
        self.position += 1
        self.report.skipped += 1
        return True

    def _undo(self) -> bool:
        if not self.done:
            self.console.print("[yellow]Nothing to undo in this sitting.[/yellow]")
            return False
        self.position, label = self.done.pop()
        self.report.undone += 1
        if label is None:
            unskip(self.lake, self.flow, self.annotator, self.items[self.position].inference.inference_id)
            self.report.skipped -= 1
            return True
        retract(self.lake, label)
        self.report.labelled[label.kind] -= 1
        return True

    def _explain(self) -> bool:
        show_guideline(self.console, self.guideline)
        return False

    def _save(self, item: QueueItem, said: Given, started: float) -> None:
        label = make_label(
            item.inference,
            annotator=self.annotator,
            kind=said.kind,
            split=item.split,
            correction=said.correction,
            value=said.value,
            other_answer=item.other.answer if item.other else None,
            other_version=item.other.version if item.other else None,
            adjudicates=bool(item.said),
            seconds=round(time.monotonic() - started, 3),
            guideline_version=self.guideline.version,
            origin=item.origin,
        )
        add_labels(self.lake, [label])
        self.done.append((self.position, label))
        self.position += 1


def label(
    lake: Lake,
    flow: str,
    items: Sequence[QueueItem],
    *,
    annotator: str,
    question: Question = "judge",
    guideline: Guideline | None = None,
    seed: int = 0,
    console: Console | None = None,
) -> LabelReport:
    """Ask the person at this terminal about each item that they have not judged yet.

    Args:
        lake: where labels go, each before the next item is shown.
        flow: the flow.
        items: the queue; what this annotator skipped earlier moves to its end. Items that carry what others said are
            adjudicated.
        annotator: name stored with each label.
        question: what is asked about each.
        guideline: its version is stored with each label, its text kept in the lake.
        seed: of the order of two answers that are compared.
        console: where to draw; default: standard output.

    Returns:
        Counts of this sitting.

    Raises:
        UsageError: standard input is not a terminal.
    """
    if not sys.stdin.isatty():
        raise UsageError("labelling needs a terminal for its keys; run `flywheel label` in one, not through a pipe")
    console, guideline = console or Console(), guideline or Guideline()
    keep_guideline(lake, flow, guideline)
    remaining = _resume(lake, flow, items, annotator, question)
    with Keyboard(sys.stdin.fileno()) as keyboard:
        return LabelSession(
            lake, flow, annotator, remaining, console, keyboard.key, keyboard.line, question, guideline, seed
        ).run()


def _resume(lake: Lake, flow: str, items: Sequence[QueueItem], annotator: str, question: Question) -> list[QueueItem]:
    mine = [one for one in read_labels(lake, flow) if one.annotator == annotator and question_of(one) == question]
    judged = {label.inference_id for label in mine}
    drawn = {label.inference_id for label in mine if label.origin == "random"}
    later = skipped(lake, flow, annotator)
    open_items = [
        item
        for item in items
        if item.said or item.inference.inference_id not in (drawn if item.origin == "random" else judged)
    ]
    return sorted(open_items, key=lambda item: item.inference.inference_id in later)
