"""What a person sees of the Goodhart monitor in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flywheel.quality.goodhart.tables import Examination, SignalRow
from flywheel.text.visible import one_line
from flywheel.workflow.turns.goodhart.check import GoodhartReport

_ROLES = {"proxy": "chosen by", "held_out": "held out", "watched": "watched"}


def show(report: GoodhartReport, console: Console) -> None:
    """The verdict, the audit turn by turn, the newest turn's signals."""
    for turn in report.standing:
        console.print(
            f"[bold red]alarm[/] of {turn} waits for a person: flywheel goodhart --settle WHY", highlight=False
        )
    console.print(Text(one_line(report.text)), soft_wrap=True)
    for remark in report.remarks:
        console.print(Text(one_line(remark), style="yellow"), soft_wrap=True)
    if report.periods:
        console.print(_audits(report.periods))
        console.print(_signals(report.periods[-1]))


def _audits(periods: list[Examination]) -> Table:
    table = Table(title="Right answers by audit labels", title_justify="left")
    for column in ("turn", "people", "right", "before", "p of a fall", "alarm at"):
        table.add_column(column, justify="left" if column == "turn" else "right")
    for look in periods:
        table.add_row(
            look.turn,
            f"{look.audit.people:,}",
            _share(look.audit.right_share),
            _share(look.audit_before.right_share),
            _number(look.fall_p, "{:.2g}"),
            _number(look.level, "{:.2g}"),
            style="red" if look.alarm else "",
        )
    return table


def _signals(look: Examination) -> Table:
    table = Table(title=f"Signals in {look.turn}: mean, and chance that a right row has the better value (AUC)")
    table.title_justify = "left"
    for column in ("signal", "role", "before", "now", "AUC", "labels"):
        table.add_column(column, justify="left" if column in ("signal", "role") else "right")
    alarms = {one.signal for one in look.alarms}
    for row in sorted(look.signals, key=lambda row: (list(_ROLES).index(row.role), row.signal)):
        if row.rows:
            table.add_row(
                Text(one_line(row.signal)),
                _ROLES[row.role],
                _number(row.level_before, "{:.3f}"),
                _number(row.level, "{:.3f}"),
                _auc(row),
                f"{row.labelled:,}",
                style="red" if row.signal in alarms else "",
            )
    return table


def _auc(row: SignalRow) -> str:
    if row.auc is None:
        return "-"
    return f"{row.auc:.2f} [{row.auc_low:.2f}, {row.auc_high:.2f}]"


def _share(value: float | None) -> str:
    return _number(value, "{:.1%}")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
