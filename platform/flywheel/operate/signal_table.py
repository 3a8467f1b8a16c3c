"""The signals on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from flywheel.quality.signals.catalogue import Entry


def signal_table(entries: Sequence[Entry]) -> Table:
    """All signals, one a row."""
    table = Table(title="signals of a possible training row", title_justify="left")
    for column in ("signal", "on", "cost", "v", "group", "measures", "how it is gamed"):
        table.add_column(column, no_wrap=column in {"signal", "on", "cost", "v"})
    for entry in entries:
        table.add_row(
            entry.name, "yes" if entry.on else "no", entry.cost, entry.version, entry.group, entry.measures, entry.gamed
        )
    return table


def signal_page(entry: Entry) -> Table:
    """One signal with everything about it."""
    table: Table = Table(show_header=False, title=entry.name, title_justify="left")
    on = "yes" if entry.on else "no" + (f" (set {entry.setting})" if entry.setting else " (quality.signals.off)")
    facts: dict[str, Any] = {
        "on": on, "measures": entry.measures, "how it is gamed": entry.gamed, "scale": entry.scale,
        "inputs": ", ".join(entry.inputs), "cost": entry.cost, "version": entry.version, "group": entry.group,
        "decides": ", ".join(entry.decides) or "nothing by itself; rules and votes can name it",
    }  # fmt: skip
    for name, value in facts.items():
        table.add_row(name, str(value))
    return table
