"""``flywheel label``: one answer at a time, one key each, every label durable before the next is shown."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from flywheel.errors import UsageError
from flywheel.lake.tables import Lake
from flywheel.records import Label, LabelKind
from flywheel.review.keyboard import Keyboard
from flywheel.review.labels import add_labels, make_label, read_labels, retract, skip, skipped, unskip
from flywheel.review.queue import QueueItem

KEYS: Final = "[b]a[/b] accept   [b]c[/b] correct   [b]s[/b] skip   [b]u[/b] undo   [b]q[/b] quit"
_STYLES: Final = {"system": "dim", "user": "cyan", "assistant": "green", "tool": "magenta"}


@dataclass
class LabelReport:
    """What one sitting brought."""

    accepted: int = 0
    corrected: int = 0
    skipped: int = 0
    undone: int = 0
    left: int = 0
    seconds: float = 0.0


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
        self._show(self.items[self.position])
        started = time.monotonic()
        try:
            return self._answer(started)
        finally:
            self.report.seconds += time.monotonic() - started

    def _answer(self, started: float) -> bool:
        """Read keys until the item is dealt with; False: the reviewer quits."""
        while True:
            key = self.read_key().lower()
            if key in {"q", "\x03", "\x04"}:
                return False
            action = {"a": self._accept, "c": self._correct, "s": self._skip, "u": self._undo}.get(key)
            if action is not None and action(started):
                return True

    def _accept(self, started: float) -> bool:
        self._save("accept", None, started)
        self.report.accepted += 1
        return True

    def _correct(self, started: float) -> bool:
        row = self.items[self.position].inference
        text = self.read_line(row.choices[row.choice_served]).strip()
        if not text:
            self.console.print("[yellow]Nothing typed; the answer is still open.[/yellow]")
            return False
        self._save("correct", text, started)
        self.report.corrected += 1
        return True

    def _skip(self, _started: float) -> bool:
        skip(self.lake, self.flow, self.annotator, self.items[self.position].inference.inference_id)
        self.done.append((self.position, None))
        self.position += 1
        self.report.skipped += 1
        return True

    def _undo(self, _started: float) -> bool:
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
        if label.kind == "accept":
            self.report.accepted -= 1
        else:
            self.report.corrected -= 1
        return True

    def _save(self, kind: LabelKind, correction: str | None, started: float) -> None:
        item = self.items[self.position]
        label = make_label(
            item.inference,
            annotator=self.annotator,
            kind=kind,
            split=item.split,
            correction=correction,
            seconds=round(time.monotonic() - started, 3),
            origin=item.origin,
        )
        add_labels(self.lake, [label])
        self.done.append((self.position, label))
        self.position += 1

    def _show(self, item: QueueItem) -> None:
        row = item.inference
        self.console.rule(f"{self.position + 1} of {len(self.items)} · {item.split} · {row.model_version}")
        for message in row.messages:
            self.console.print(Text(f"{message.role}: {message.content}", style=_STYLES[message.role]))
        self.console.print(Panel(Text(row.choices[row.choice_served]), title="answer", title_align="left"))
        self.console.print(KEYS)


def label(
    lake: Lake, flow: str, items: Sequence[QueueItem], *, annotator: str, console: Console | None = None
) -> LabelReport:
    """Ask the person at this terminal about each item that they have not judged yet.

    Args:
        lake: where labels go, each before the next item is shown.
        flow: the flow.
        items: the queue; what this annotator skipped earlier moves to its end.
        annotator: name stored with each label.
        console: where to draw; default: standard output.

    Returns:
        Counts of this sitting.

    Raises:
        UsageError: standard input is not a terminal.
    """
    if not sys.stdin.isatty():
        raise UsageError("labelling needs a terminal for its keys; run `flywheel label` in one, not through a pipe")
    console = console or Console()
    remaining = _resume(lake, flow, items, annotator)
    with Keyboard(sys.stdin.fileno()) as keyboard:
        return LabelSession(lake, flow, annotator, remaining, console, keyboard.key, keyboard.line).run()


def _resume(lake: Lake, flow: str, items: Sequence[QueueItem], annotator: str) -> list[QueueItem]:
    mine = [label for label in read_labels(lake, flow) if label.annotator == annotator]
    judged = {label.inference_id for label in mine}
    drawn = {label.inference_id for label in mine if label.origin == "random"}
    later = skipped(lake, flow, annotator)
    open_items = [
        item for item in items if item.inference.inference_id not in (drawn if item.origin == "random" else judged)
    ]
    return sorted(open_items, key=lambda item: item.inference.inference_id in later)
