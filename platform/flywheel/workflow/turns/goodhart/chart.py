"""Geometry of the monitor's pictures: small panels over turns, and the square of correlations. Pure; percentages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from flywheel.quality.goodhart.tables import Audit, Examination, PairRow, SignalRow
from flywheel.statistics.proportions import Count, wilson

_EDGE = 6.0
_HEIGHT = 84.0


@dataclass(frozen=True)
class Dot:
    """One turn's value: place in percent of the panel, with the ends of its interval where it has one."""

    x: float
    y: float
    low: float | None
    high: float | None
    alarm: bool
    text: str


@dataclass(frozen=True)
class Panel:
    """One number over turns. ``middle`` is the height of the line that means nothing (AUC 0.5), if there is one."""

    title: str
    note: str
    dots: list[Dot]
    middle: float | None
    bottom: str
    top: str

    @property
    def segments(self) -> list[tuple[Dot, Dot]]:
        """Neighbours to join."""
        return list(zip(self.dots, self.dots[1:], strict=False))


@dataclass(frozen=True)
class Cell:
    """Two signals of the newest period: ``shade`` from 0 to 1, and its sign."""

    x: float
    y: float
    size: float
    shade: float
    positive: bool
    text: str


def audit_panel(periods: Sequence[Examination]) -> Panel:
    """Share of audited answers that are right, with Wilson's interval."""
    places = _places(len(periods))
    dots = [_audit_dot(place, look) for place, look in zip(places, periods, strict=True) if look.audit.people]
    return Panel("right by audit labels", "the truth, as far as people labelled it", dots, None, "0 %", "100 %")


def auc_panel(name: str, periods: Sequence[Examination]) -> Panel:
    """How well a signal tells right from wrong; 0.5 is a coin."""
    dots: list[Dot] = []
    for place, look, row in _rows(name, periods):
        if row.auc is not None and row.auc_low is not None and row.auc_high is not None:
            low, high = _y(row.auc_low), _y(row.auc_high)
            text = f"{look.turn}: AUC {row.auc:.2f} [{row.auc_low:.2f}, {row.auc_high:.2f}], {row.labelled} labels"
            dots.append(Dot(place, _y(row.auc), low, high, _alarm(look, name), text))
    return Panel("AUC against the audit", "0.5: says nothing", dots, _y(0.5), "0", "1")


def level_panel(name: str, periods: Sequence[Examination]) -> Panel:
    """A signal's mean over people, on a scale of its own."""
    found = [(place, look, row.level) for place, look, row in _rows(name, periods) if row.level is not None]
    values = [level for _, _, level in found] or [0.0]
    low, high = min(values), max(values)
    pad = max(0.02, 0.15 * (high - low))
    low, high = low - pad, high + pad
    dots = [
        Dot(place, _y((level - low) / (high - low)), None, None, _alarm(look, name), f"{look.turn}: {level:.3f}")
        for place, look, level in found
    ]
    return Panel("level", "mean over people", dots, None, f"{low:.2f}", f"{high:.2f}")


def square(pairs: Sequence[PairRow]) -> tuple[list[str], list[Cell]]:
    """Names in order, and a cell for every pair, below the diagonal."""
    names = sorted({name for pair in pairs for name in (pair.a, pair.b)})
    size = 100 / max(1, len(names))
    place = {name: number for number, name in enumerate(names)}
    cells = [
        Cell(
            x=round(place[pair.a] * size, 2),
            y=round(place[pair.b] * size, 2),
            size=round(size, 2),
            shade=round(min(1.0, abs(pair.rho)), 3),
            positive=pair.rho > 0,
            text=f"{pair.a} and {pair.b}: {pair.rho:+.2f} [{pair.low:+.2f}, {pair.high:+.2f}], {pair.rows:,} rows",
        )
        for pair in pairs
    ]
    return names, cells


def share_interval(audit: Audit, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of the share that is right."""
    return wilson(Count(audit.people - audit.wrong, audit.people), confidence)


def _audit_dot(place: float, look: Examination) -> Dot:
    share = look.audit.right_share or 0.0
    low, high = share_interval(look.audit)
    text = f"{look.turn}: {share:.1%} of {look.audit.people:,} people right"
    return Dot(place, _y(share), _y(low), _y(high), look.alarm, text)


def _rows(name: str, periods: Sequence[Examination]) -> list[tuple[float, Examination, SignalRow]]:
    places = _places(len(periods))
    return [
        (place, look, row)
        for place, look in zip(places, periods, strict=True)
        for row in look.signals
        if row.signal == name
    ]


def _places(count: int) -> list[float]:
    """Centres of as many columns, in percent."""
    return [round(_EDGE + (100 - 2 * _EDGE) * (number + 0.5) / max(1, count), 2) for number in range(count)]


def _y(share: float) -> float:
    """0 at the bottom, 1 at the top, in pixels of a panel."""
    return round(_HEIGHT * (1 - min(1.0, max(0.0, share))) + 8, 2) if math.isfinite(share) else _HEIGHT


def _alarm(look: Examination, name: str) -> bool:
    return any(one.signal == name for one in look.alarms)
