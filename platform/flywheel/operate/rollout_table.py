"""What a person sees of rollouts in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flywheel.rollout.machine.story import Moment
from flywheel.text.visible import one_line

_MARKS = {True: ("✓", "green"), False: ("✗", "red"), None: ("?", "yellow")}


def show_state(state: dict[str, Any], console: Console) -> None:
    """Steps, live model, candidates with what they wait for, guards, and whether the controller lives."""
    live = state["live"]
    if not state["steps"]:
        console.print("rollouts are off: what passes the gate is live at once (set rollout.canary_steps)")
    watched = f", watched; a guard takes it back to {live['previous']}" if live["watched"] else ""
    _line(console, f"live: {live['version']} since {str(live['since'])[:19]}{watched}")
    if state["candidates"]:
        console.print(_candidates(state["candidates"]))
    for one in state["candidates"]:
        _details(one, console)
    if live["guards"]:
        console.print(_guards(live["version"], live["guards"]))
    _controller(state, console)


def show_story(moments: Sequence[Moment], console: Console) -> None:
    """One row a decision, oldest first."""
    table = Table(title="Rollouts", title_justify="left")
    for column in ("routing", "when", "what", "users", "who", "why"):
        table.add_column(column)
    for moment in moments:
        shares = ", ".join(f"{version} {100 * share:.4g} %" for version, share in moment.shares.items())
        table.add_row(
            str(moment.n),
            f"{moment.ts:%Y-%m-%d %H:%M:%S}",
            Text(one_line(f"{moment.action} {moment.version or ''}"), style="red" if "back" in moment.action else ""),
            Text(one_line(shares)),
            Text(one_line(moment.actor)),
            Text(one_line(moment.reason)),
        )
    console.print(table)


def _candidates(candidates: Sequence[dict[str, Any]]) -> Table:
    table = Table(title="Candidates", title_justify="left")
    for column in ("version", "stage", "users", "since", "requests", "next"):
        table.add_column(column)
    for one in candidates:
        held = f"held: {one['paused']}" if one["paused"] else "by hand"
        after = f"{100 * one['next']:.4g} %" if isinstance(one["next"], float) else one["next"]
        table.add_row(
            Text(one_line(one["version"])),
            one["stage"],
            f"{100 * one['share']:.4g} %" if one["share"] else "none",
            str(one["since"])[:19],
            f"{one['requests']:,}" if one["requests"] is not None else "-",
            after if one["enrolled"] and not one["paused"] else held,
            style="yellow" if one["paused"] else "",
        )
    return table


def _details(one: dict[str, Any], console: Console) -> None:
    if one["waits"]:
        _line(console, f"{one['version']} waits for: {'; '.join(one['waits'])}")
    if one["obstacle"]:
        _line(console, f"{one['version']} is not served: {one['obstacle']}", style="yellow")
    for word in one["comparisons"]:
        where, said = (word[name].replace("_", " ") for name in ("source", "state"))
        units = f"{word['units']:,} of {word['planned_units']:,} planned units"
        _line(console, f"{one['version']} on live traffic ({where}): {said}, {units}")
    if one["guards"]:
        console.print(_guards(one["version"], one["guards"]))


def _guards(version: str, guards: Sequence[dict[str, Any]]) -> Table:
    table = Table(title=f"Guards of {one_line(version)}", title_justify="left", show_header=False)
    for guard in guards:
        mark, style = _MARKS[guard["passed"]]
        table.add_row(Text(mark, style=style), guard["name"], Text(one_line(guard["text"])))
    return table


def _controller(state: dict[str, Any], console: Console) -> None:
    told = state["controller"]
    if told is None:
        if state["steps"]:
            _line(console, "no controller ran yet: nothing moves until `flywheel up`", style="yellow")
        return
    if not told["alive"]:
        _line(console, f"the controller said nothing since {told['at'][:19]}: candidates stay where they are", "yellow")
    if told["problem"]:
        _line(console, f"the controller: {told['problem']}", style="yellow")


def _line(console: Console, text: str, style: str = "") -> None:
    console.print(Text(one_line(text), style=style), soft_wrap=True)
