"""What curation commands print: one row explained, a dataset, two filters side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from flywheel.workflow.curation.explain import Explanation

_MARK = {True: "[green]pass[/]", False: "[red]FAIL[/]", None: "[dim]-[/]"}
_STAGE = {
    "passed": "[green]passed[/]",
    "failed": "[red]FAILED[/]",
    "not reached": "[dim]not reached[/]",
    "unknown": "?",
}


def explanation(found: Explanation, console: Console) -> None:
    """One row: the verdict first, then what led to it."""
    reason = f": {found.reason}{f' ({found.detail})' if found.detail else ''}" if found.reason else ""
    _line(console, f"{found.inference_id} in {found.dataset} (filter {found.filter}, {found.turn or 'no turn'})")
    console.print(f"[bold]{escape(found.verdict + reason)}[/]", highlight=False, soft_wrap=True)
    if found.verdict == "not seen":
        _line(console, "The dataset was made before this row was in the lake, or does not look at such rows.")
    if found.example_id:
        _line(console, f"example {found.example_id}")
    _way(found, console)
    if found.trace is not None:
        _trace(found, console)
    for name, place in found.draws.items():
        _line(console, f"hash draw for the share of {name} rows: {place:.3f} (the lowest are repeated)")
    if found.instead_of_count:
        more = found.instead_of_count - len(found.instead_of)
        _line(console, f"stayed instead of: {', '.join(found.instead_of)}{f' and {more:,} more' if more else ''}")
    _line(console, f"used by: {', '.join(found.used_by) or 'nothing'}")


def _way(found: Explanation, console: Console) -> None:
    """Consent, the stages, and reactions that did not count."""
    if not found.consent:
        _line(
            console, "This person does not agree to training now: no signal is shown, and the next dataset is without."
        )
    if found.stages:
        console.print(_stages(found))
    for reason in found.quarantined:
        _line(console, f"a reaction in quarantine, {reason}")


def dataset(shown: dict[str, Any], console: Console) -> None:
    """A dataset's funnel, and the filter that made it."""
    from flywheel.operate.render import funnel_table

    _line(
        console,
        f"{shown['id']} of {shown['created'][:16]} ({shown['turn'] or 'no turn'}): {shown['examples']:,} examples",
    )
    console.print(funnel_table(shown["funnel"]))
    if shown["older"] is not None:
        _line(console, f"{shown['older']:,} of them the model had learnt from before")
    table = _table(f"Filter {shown['filter']['version']}", "reason", "signal", "bound", "for", "dropped")
    for rule in shown["rules"]:
        table.add_row(*(escape(str(rule[key])) for key in ("reason", "signal", "bound", "for", "dropped")))
    console.print(table)
    _line(console, f"models made of it: {', '.join(shown['models']) or 'none'}")


def difference(shown: dict[str, Any], console: Console) -> None:
    """What a filter file changes, and what that does on the rows of the newest turn."""
    table = _table(f"{shown['current']} -> {shown['proposed']}", "setting", "now", "then")
    for row in shown["changes"]:
        table.add_row(escape(row["setting"]), escape(row["now"]), escape(row["then"]))
    console.print(table) if shown["changes"] else _line(console, "Both filters say the same.")
    effect = shown["effect"]
    if effect is not None:
        table = _table(f"On the rows of {effect['turn']}", "", "now", "then")
        for name, now, then in effect["rows"]:
            table.add_row(name, f"{now:,}", f"{then:,}")
        console.print(table)
        _line(console, f"{effect['gained']:,} rows come in, {effect['lost']:,} go out")
    for remark in shown["remarks"]:
        _line(console, remark)


def _stages(found: Explanation) -> Table:
    table = _table("Stages", "stage", "", "")
    for stage in found.stages:
        table.add_row(escape(stage.name), _STAGE[stage.outcome], escape(stage.detail))
    return table


def _trace(found: Explanation, console: Console) -> None:
    assert found.trace is not None
    table = _table(f"Rules, for a {'correction' if found.origin == 'correction' else 'liked answer'}",
                   "reason", "signal", "value", "bound", "", "")  # fmt: skip
    for rule in found.trace.rules:
        table.add_row(
            rule.reason, escape(rule.signal), _number(rule.value), escape(rule.bound), _MARK[rule.passed], rule.note
        )
    console.print(table)
    trace = found.trace
    table = _table(
        f"Votes: {trace.approvals} groups approve, {trace.needed} are needed", "signal", "group", "value", "bound", ""
    )
    for vote in trace.votes:
        mark = "[green]yes[/]" if vote.approves else "[dim]no[/]"
        table.add_row(escape(vote.signal), escape(vote.group), _number(vote.value), vote.bound, mark)
    console.print(table)
    factors = ", ".join(f"{term.signal} {_number(term.value)} gives {term.factor:.3f}" for term in trace.weights)
    _line(console, f"weight {trace.weight:g}{f' ({factors})' if factors else ''}")
    asked = {item.signal for item in [*trace.rules, *trace.votes, *trace.weights]}
    rest = {name: value for name, value in found.signals.items() if name not in asked}
    if rest:
        _line(
            console,
            "signals that this filter does not read: " + ", ".join(f"{k} {_number(v)}" for k, v in rest.items()),
        )


def _table(title: str, *columns: str) -> Table:
    table = Table(title=escape(title), title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _line(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
