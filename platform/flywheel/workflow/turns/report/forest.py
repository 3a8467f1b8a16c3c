"""The geometry of a forest plot: suites under each other on one axis of percentage points. Pure.

Horizontal places are percentages of the width, so that the picture fits a phone as well as a desk.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from flywheel.workflow.turns.report.model import SuiteRow

ROW = 62
"""Pixels from one suite to the next."""
FOOT = 34
"""Pixels below the last suite, for the axis."""
_MARGIN = 0.06
_STEPS = (0.5, 1, 2, 5, 10, 20, 50, 100)
_TICKS = 7


@dataclass(frozen=True)
class Mark:
    """A suite's place: ``low`` and ``high`` are the interval's ends, ``threshold`` the line it must stay right of."""

    row: SuiteRow
    y: float
    at: float
    low: float | None
    high: float | None
    threshold: float | None
    good: bool | None


@dataclass(frozen=True)
class Tick:
    """A line of the axis and its text."""

    at: float
    text: str


@dataclass(frozen=True)
class Plot:
    """Everything that is drawn."""

    height: int
    marks: list[Mark]
    ticks: list[Tick]


def forest(rows: Sequence[SuiteRow]) -> Plot:
    """Place every suite, its threshold and the axis."""
    values = [0.0]
    for row in rows:
        values += [row.difference, *(row.interval or ()), *([] if row.threshold is None else [row.threshold])]
    low, high = 100 * min(values), 100 * max(values)
    pad = max(1.0, _MARGIN * (high - low))
    low, high = low - pad, high + pad

    def place(share: float) -> float:
        return round(100 * (100 * share - low) / (high - low), 2)

    marks = [
        Mark(
            row=row,
            y=number * ROW,
            at=place(row.difference),
            low=place(row.interval[0]) if row.interval else None,
            high=place(row.interval[1]) if row.interval else None,
            threshold=None if row.threshold is None else place(row.threshold),
            good=None if row.threshold is None or row.interval is None else row.interval[0] > row.threshold,
        )
        for number, row in enumerate(rows)
    ]
    step = next((step for step in _STEPS if (high - low) / step <= _TICKS), _STEPS[-1])
    first = math.ceil(low / step)
    ticks = [Tick(place(n * step / 100), f"{n * step:+g}" if n else "0") for n in range(first, int(high / step) + 1)]
    return Plot(height=len(rows) * ROW + FOOT, marks=marks, ticks=ticks)
