"""The Pareto plot, quality against volume, as an SVG. Pure; attributes only, so that it may stand in any page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from flywheel.workflow.sweeps.result import Point, SweepResult

WIDTH, HEIGHT = 680, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 44, 52
_TICKS = 6
_STEPS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25)
MOST_DOTS = 1_000
"""Proposals that are drawn at the most; evenly thinned, the front is always whole."""


def pareto_svg(result: SweepResult, cloud: Sequence[tuple[float, float]] = ()) -> str:
    """Front, start and winner, over a cloud of ``(volume, quality)`` of all proposals."""
    before = (result.start_volume, result.start_right_kept / max(1, result.start_kept))
    after = (result.volume, result.right_kept / max(1, result.kept))
    line = [(point.volume, point.quality) for point in result.front]
    dots = list(dict.fromkeys((round(x, 4), round(y, 4)) for x, y in cloud))
    dots = dots[:: max(1, math.ceil(len(dots) / MOST_DOTS))]
    shown = [*line, before, after]
    across, up = _axis([x for x, _ in shown]), _axis([y for _, y in shown])

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x = LEFT + across.at(point[0]) * (WIDTH - LEFT - RIGHT)
        return round(x, 1), round(HEIGHT - BOTTOM - up.at(point[1]) * (HEIGHT - TOP - BOTTOM), 1)

    inside = [place(dot) for dot in dots if across.holds(dot[0]) and up.holds(dot[1])]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-size="13" '
        f'font-family="system-ui, sans-serif" fill="currentColor"><title>{escape(_title(result))}</title>',
        *_grid(across, up),
        *(f'<circle cx="{x}" cy="{y}" r="2" opacity="0.22"/>' for x, y in inside),
        *_front(result.front, [place(point) for point in line]),
        _mark(place(before), "none", f"now: {_words(before)}", below=True),
        _mark(place(after), "#1f8a5b", f"found: {_words(after)}"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


class _Axis:
    def __init__(self, low: float, high: float, step: float) -> None:
        self.low, self.high, self.step = low, high, step

    def at(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low)

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high

    def ticks(self) -> list[float]:
        first = math.ceil(self.low / self.step - 1e-9)
        return [n * self.step for n in range(first, int(self.high / self.step + 1e-9) + 1)]


def _axis(values: Sequence[float]) -> _Axis:
    low, high = min(values), max(values)
    pad = max(0.01, 0.08 * (high - low))
    low, high = max(0.0, low - pad), min(1.0, high + pad)
    step = next((step for step in _STEPS if (high - low) / step <= _TICKS), _STEPS[-1])
    return _Axis(low, high, step)


def _grid(across: _Axis, up: _Axis) -> list[str]:
    floor, wide = HEIGHT - BOTTOM, WIDTH - LEFT - RIGHT
    parts = [f'<text x="{LEFT}" y="{TOP - 22}">right among the kept labelled rows</text>']
    right = WIDTH - RIGHT
    parts.append(f'<text x="{right}" y="{HEIGHT - 10}" text-anchor="end">kept share of all trainable rows</text>')
    for tick in up.ticks():
        y = round(floor - up.at(tick) * (floor - TOP), 1)
        parts.append(f'<path d="M{LEFT} {y}H{WIDTH - RIGHT}" stroke="currentColor" opacity="0.15"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{_percent(tick)}</text>')
    for tick in across.ticks():
        x = round(LEFT + across.at(tick) * wide, 1)
        parts.append(f'<path d="M{x} {TOP}V{floor}" stroke="currentColor" opacity="0.15"/>')
        parts.append(f'<text x="{x}" y="{floor + 18}" text-anchor="middle">{_percent(tick)}</text>')
    return parts


def _front(points: Sequence[Point], places: Sequence[tuple[float, float]]) -> list[str]:
    if not points:
        return []
    path = "M" + " L".join(f"{x} {y}" for x, y in places)
    dots = [
        f'<circle cx="{x}" cy="{y}" r="3.5" fill="#2f6fb5"><title>{_words((one.volume, one.quality))}; '
        f"{escape(_changed(one))}</title></circle>"
        for one, (x, y) in zip(points, places, strict=True)
    ]
    return [f'<path d="{path}" fill="none" stroke="#2f6fb5" stroke-width="1.5"/>', *dots]


def _mark(place: tuple[float, float], fill: str, text: str, *, below: bool = False) -> str:
    x, y = place
    anchor = "end" if x > WIDTH / 2 else "start"
    shift = -10 if anchor == "end" else 10
    return (
        f'<circle cx="{x}" cy="{y}" r="7" fill="{fill}" stroke="currentColor" stroke-width="1.5"/>'
        f'<text x="{x + shift}" y="{y + (20 if below else -10)}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def _title(result: SweepResult) -> str:
    return f"{result.proposals} filters on {result.labels} labels; {result.best.version}"


def _words(point: tuple[float, float]) -> str:
    return f"{point[1]:.1%} right, {point[0]:.1%} kept"


def _changed(point: Point) -> str:
    return ", ".join(f"{key} {value:.3g}" for key, value in point.params.items()) or "the filter as it is"


def _percent(share: float) -> str:
    return f"{100 * share:g} %" if round(100 * share, 6) == round(100 * share) else f"{100 * share:.1f} %"
