"""What a person sees in the terminal: progress, tables, the funnel, the verdict."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from flywheel.operate.capture_state import capture_lines
from flywheel.text.visible import one_line
from flywheel.workflow.erasure.erase import Erasure
from flywheel.workflow.erasure.erase_turns import ENDED

if TYPE_CHECKING:
    from flywheel.workflow.cadence.cadence import Due

VERDICT_STYLE = {"promote": "bold green", "reject": "bold red", "continue": "yellow", "inconclusive": "yellow"}


class TerminalProgress:
    """One bar with a rate while a step runs, one line with its summary and time when it is done."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bar: Progress | None = None
        self._task: Any = None
        self._name = ""
        self._begun = 0.0

    def start(self, name: str, text: str = "") -> None:
        """Begin a step."""
        self._name, self._begun = name, time.monotonic()
        if self.console.is_terminal:
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description:<12}"),
                BarColumn(bar_width=30),
                TextColumn("{task.fields[extra]}"),
                TimeElapsedColumn(),
                console=self.console,
                transient=True,
            )
            self._task = self._bar.add_task(name, total=None, extra=text)
            self._bar.start()

    def update(self, done: float, total: float | None = None, text: str = "") -> None:
        """Move the bar."""
        if self._bar is None:
            return
        seconds = max(time.monotonic() - self._begun, 1e-6)
        rate = f"{done:,.0f}/{total:,.0f}  {done / seconds:,.0f}/s" if total else ""
        self._bar.update(self._task, completed=done, total=total, extra=f"{rate}  {text}".strip())

    def finish(self, text: str = "") -> None:
        """End the step with one line."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        seconds = time.monotonic() - self._begun
        self.console.print(
            f"[green]✓[/] {self._name:<12} [dim]{seconds:6.1f} s[/]  {_escaped(text)}", highlight=False, soft_wrap=True
        )


def funnel_table(funnel: dict[str, Any]) -> Table:
    """Captured, consented, unique, kept, and every reason a row was dropped for, with the signals it rests on."""
    from flywheel.quality.signals.catalogue import deciding

    table = Table(title="Funnel", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for stage in ("captured", "consented", "unique", "kept"):
        table.add_row(stage, f"{funnel.get(stage, 0):,}")
    for reason, count in sorted(funnel.get("dropped", {}).items(), key=lambda item: -item[1]):
        signals = deciding(reason)
        label = f"dropped: {reason}" + (f" ({', '.join(signals)})" if signals else "")
        table.add_row(_plain(label, style="dim"), f"[dim]{count:,}[/]")
    return table


def before_after_table(metrics: dict[str, Any], confidence: float = 0.95) -> Table:
    """Accuracy of the live model and the candidate on each suite, with the paired interval. Fits 80 columns."""
    table = Table(title=f"Before and after, % right; gain in points with its {confidence:.0%} interval")
    table.title_justify = "left"
    for column in ("suite", "cases", "live", "new", "gain", "fixed", "broken"):
        table.add_column(column, justify="left" if column == "suite" else "right", no_wrap=column == "gain")
    for suite, row in metrics.get("suites", {}).items():
        low, high = (100 * bound for bound in row["interval"])
        table.add_row(
            _plain(suite),
            f"{row['n']:,}",
            f"{100 * row['live']:.1f}",
            f"{100 * row['candidate']:.1f}",
            f"{100 * row['difference']:+.1f} [{low:+.1f}, {high:+.1f}]",
            str(row["fixed"]),
            str(row["newly_broken"]),
        )
    return table


def verdict_table(decision: str, reasons: list[dict[str, Any]]) -> Table:
    """The gate's verdict and each condition behind it."""
    style = VERDICT_STYLE.get(decision, "bold")
    table = Table(title=f"Gate: [{style}]{decision}[/]", title_justify="left", show_header=False)
    marks = {"pass": "[green]✓[/]", "fail": "[red]✗[/]", "wait": "[yellow]…[/]", "missing": "[yellow]?[/]"}
    for reason in reasons:
        table.add_row(marks[reason["outcome"]], _plain(reason["name"]), _plain(reason["text"]))
    return table


def _escaped(text: str) -> str:
    """The same, within a line that has markup."""
    return escape(one_line(text))


def _plain(text: str, *, style: str = "") -> Text:
    """Words that came from outside (suites, models, reasons): no markup, and no control reaches the terminal."""
    return Text(one_line(text), style=style)


def status_tables(state: dict[str, Any], console: Console) -> None:
    """Print ``flywheel status`` for people."""
    live = state["live"]
    console.print(f"flow [bold]{state['flow']}[/]", highlight=False)
    console.print(
        f"live: [bold]{live['version']}[/] since {live['since']}" if live else "live: nothing yet", highlight=False
    )
    if live and live["erased"]:
        console.print(
            f"[yellow]it learnt from a person who was erased since ({', '.join(live['erased'])}); "
            "run `flywheel turn` for one that did not[/]",
            highlight=False,
        )
    if drift := state["drift"]:
        mark = "[red]got worse:[/] " if drift["alarm"] else "drift: none seen; "
        console.print(f"{mark}{drift['text']}", highlight=False, soft_wrap=True)
    if goodhart := state["goodhart"]:
        mark = "[red]a proxy rose and quality did not:[/] " if goodhart["alarm"] else "goodhart: "
        console.print(f"{mark}{_escaped(goodhart['text'])}", highlight=False, soft_wrap=True)
    _candidate_lines(state, console)
    for line in [*capture_lines(state["capture"]), *state["notes"]]:
        console.print(_plain(line, style="yellow"), highlight=False, soft_wrap=True)
    if state["running"]:
        console.print(f"a turn is run by {state['running']}", highlight=False)
    turns = Table(title="Turns", title_justify="left")
    for column in ("turn", "started", "decision", "why"):
        turns.add_column(column)
    for turn in state["turns"]:
        style = VERDICT_STYLE.get(turn["decision"], "")
        why = "; ".join(reason if isinstance(reason, str) else reason["text"] for reason in turn["reasons"])
        turns.add_row(
            turn["id"],
            str(turn["started"])[:19],
            f"[{style}]{turn['decision']}[/]" if style else turn["decision"],
            _plain(why),
        )
    console.print(turns)
    console.print(funnel_table(state["funnel"]))
    readiness_lines(state["readiness"], console)


def _candidate_lines(state: dict[str, Any], console: Console) -> None:
    for candidate in state["candidates"]:
        console.print(f"shadow: {candidate['version']} on {candidate['share']:.0%} of the traffic", highlight=False)
    for canary in state["canaries"]:
        console.print(f"canary: {canary['version']} for {100 * canary['share']:.6g} % of the users", highlight=False)
    for split in state["split"]:
        if split["alarm"]:
            console.print(
                f"[red]users are not split as asked:[/] {_escaped(split['text'])}", highlight=False, soft_wrap=True
            )


def readiness_lines(readiness: dict[str, Any], console: Console) -> None:
    """What the flow has of all that a good turn needs, and how to get the rest."""
    console.print("Ready for a turn" if readiness["ready"] else "Until a turn is worth it", style="italic")
    for item in readiness["items"]:
        mark = "[green]✓[/]" if item["done"] else "[yellow]·[/]"
        ideal = item["ideal"] if item["ideal"] and item["have"] < item["ideal"] else None
        goal = f"{item['have']:,} of {item['need']:,}{f', better {ideal:,}' if ideal else ''}"
        todo = "" if item["done"] else f"  [dim]{item['next']}[/]"
        console.print(f"{mark} {item['name']:<32} {goal:<26}{todo}", highlight=False, soft_wrap=True)


def due_lines(due: Due, console: Console) -> None:
    """Whether a turn is due: what speaks for it, and what it waits for."""
    console.print("[bold green]due[/]" if due.due else "[yellow]not due[/]", highlight=False)
    for mark, rules in (("[green]✓[/]", due.reasons), ("[dim]·[/]", due.waiting)):
        for why in rules:
            console.print(f"{mark} {why.name}: {_escaped(why.text)}", highlight=False, soft_wrap=True)


def show_erasure(erasure: Erasure, console: Console) -> None:
    """Print what of a person was removed where (or would be), what is marked, and what is left to do."""
    table = Table(title="Would be removed" if erasure.dry else "Removed", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for store, rows in erasure.removed.items():
        if rows:
            table.add_row(store, f"{rows:,}")
    console.print(table if erasure.total else "Nothing of this person is stored.", highlight=False)
    for line in _erasure_notes(erasure):
        console.print(line, highlight=False, soft_wrap=True)


def _erasure_notes(erasure: Erasure) -> Iterator[str]:
    if erasure.again:
        yield f"This person was erased already, up to {erasure.again:%Y-%m-%d %H:%M:%S} UTC; this run swept again."
    if erasure.marked:
        yield f"Made of this person's data, and marked: {', '.join(erasure.marked)}"
    for flow, version in erasure.live.items():
        yield f"{version} goes on serving '{flow}'; run `flywheel turn` for a model without this person's data."
    for turn in erasure.ended_turns:
        yield f"{turn} was unfinished and is ended: {ENDED}."
    for place in erasure.unreadable:
        yield f"Nobody can look into {place}; it may hold raw events of anybody: look at it, then delete it."


def demo_summary(result: dict[str, Any], console: Console) -> None:
    """Where everything is after a demo, and what to try next."""
    told = result["demo"]
    before, after, surrogates = told["traffic"], told["fresh_traffic"], told["surrogates"]
    lines = [
        f"live traffic     {before['right']:.1%} answered right before, {after['right']:.1%} after "
        f"({after['requests']} fresh requests to {after['model']})",
        f"surrogates       accuracy {surrogates['accuracy']:.1%}, with raw text {surrogates['accuracy_raw']:.1%}: "
        f"{100 * surrogates['difference']:+.1f} points on {surrogates['cases']} cases "
        f"({surrogates['texts_changed']} texts differ)",
        f"lake             {told['lake']}",
        f"MLflow           mlflow ui --backend-store-uri {told['mlflow']}",
        f"whole demo       {told['seconds'] / 60:.1f} minutes",
        f"next             flywheel status --set home={told['home']}",
    ]
    if told["running"]:
        lines.append(f"still running    {told['running']}; stop it with: flywheel down --set home={told['home']}")
    elif result["decision"] == "promote":
        lines.append("                 flywheel demo --sabotage   (the same with hostile feedback: the gate says no)")
    console.print()
    if len(told["rounds"]) > 1:
        console.print(rounds_table(told["rounds"]))
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def rounds_table(rounds: Sequence[Mapping[str, Any]]) -> Table:
    """The compounding: users answered right, what the turn made of it, and minutes from a correction to its fix."""
    table = Table(title="Round by round", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("round", "right", "random sample", "gain, points", "decision", "minutes"):
        table.add_column(column, justify="left" if column == "decision" else "right", no_wrap=True)
    for number, one in enumerate(rounds, 1):
        known = "candidate" in one
        minutes = "-" if one["seconds_to_fix"] is None else f"{one['seconds_to_fix'] / 60:.1f}"
        low, high = one["interval"] if known else (0.0, 0.0)
        table.add_row(
            str(number),
            f"{one['right']:.1%}",
            f"{100 * one['live']:.1f} > {100 * one['candidate']:.1f} %" if known else "-",
            f"{100 * one['difference']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]" if known else "-",
            one["decision"],
            minutes,
        )
    return table
