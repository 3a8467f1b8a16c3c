"""How an item looks to the reviewer. Texts of users are shown as they are, never as markup."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.text import Text

from flywheel.records import Label
from flywheel.review.guideline import Guideline
from flywheel.review.keys import ALWAYS, keys_of
from flywheel.review.queue import QueueItem
from flywheel.review.settle import Question

_STYLES: Final = {"system": "dim", "user": "cyan", "assistant": "green", "tool": "magenta"}


def show_item(console: Console, item: QueueItem, *, heading: str, question: Question, served_first: bool) -> None:
    """The conversation, the answer or both answers, what an adjudicator must know, and the keys.

    A comparison names no model, so that nobody can tell which answer is whose.
    """
    row = item.inference
    served = row.choices[row.choice_served]
    console.rule(heading if item.other else f"{heading} · {escape(row.model_version)}")
    for message in row.messages:
        console.print(Text(f"{message.role}: {message.content}", style=_STYLES[message.role]))
    if item.other is None:
        _panel(console, "answer", served)
    else:
        both = [served, item.other.answer] if served_first else [item.other.answer, served]
        for number, answer in enumerate(both, start=1):
            _panel(console, str(number), answer)
    for number, label in enumerate(item.said, start=1):
        console.print(Text(f"{number}: {told(label, served_first)}", style="yellow"))
    if item.why:
        console.print(Text(f"why: {item.why}", style="dim"))
    names = {**keys_of(question, item), **ALWAYS}
    console.print("  ".join(f"[b]{escape(key)}[/b] {name}" for key, name in names.items()), soft_wrap=True)


def show_guideline(console: Console, guideline: Guideline) -> None:
    """The guideline in force, or how to get one."""
    if guideline.text:
        console.print(Panel(Text(guideline.text), title=guideline.version, title_align="left"))
    else:
        console.print("[yellow]There is no guideline; name a text file in labels.guideline.[/yellow]")


def told(label: Label, served_first: bool) -> str:
    """One annotator's judgement without their name: an adjudicator weighs what was said, not who said it."""
    if label.kind == "rate":
        return f"rated {label.value:g}"
    if label.kind == "compare":
        better = {0.0: "a tie", 1.0 if served_first else -1.0: "1 is better"}
        return better.get(label.value or 0.0, "2 is better")
    return label.kind if label.correction is None else f"{label.kind}: {label.correction}"


def _panel(console: Console, title: str, text: str) -> None:
    console.print(Panel(Text(text), title=title, title_align="left"))
