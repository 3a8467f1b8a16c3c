"""The history of shares as an SVG: who answered how much of the users, state by state, with what was decided. Pure.

States lie on a line of time in which long quiet stretches are cut short: a rollout of an hour after a month without
one would else be a hair. Widths grow with the logarithm of a state's duration; the axis says the times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from html import escape

from flywheel.rollout.machine.story import Moment
from flywheel.text.visible import one_line

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 900, 360, 56, 16, 54, 96
COLOURS = ("#2f6fb5", "#c8781e", "#1f8a5b", "#8d4fb0", "#b53f52", "#5b7083")
MARKS = {
    "rollback": ("#c0392b", "back"), "uncanary": ("#c0392b", "back"), "unshadow": ("#7f8c8d", "out"),
    "promote": ("#1f8a5b", "live"), "canary": ("#2f6fb5", "canary"), "pause": ("#c8781e", "pause"),
    "resume": ("#5b7083", "on"), "rollout": ("#5b7083", "begin"), "shadow": ("#5b7083", "shadow"),
    "bootstrap": ("#5b7083", "first"),
}  # fmt: skip
MOST = 60
"""Newest states that are drawn."""
_LEAST_S = 20.0


def share_svg(moments: Sequence[Moment], now: datetime) -> str:
    """The picture; ``now`` ends it. A sentence instead where there is no history."""
    shown = list(moments)[-MOST:]
    if not shown:
        return _empty()
    places = _places([moment.ts for moment in shown], now)
    colours = _colours(shown)
    floor = HEIGHT - BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-size="13" '
        f'font-family="system-ui, sans-serif" fill="currentColor"><title>{escape(_title(shown))}</title>',
        *_legend(colours),
        *_axis(floor),
        *(
            part
            for moment, x, to in zip(shown, places, places[1:], strict=False)
            for part in _bars(moment, x, to, colours)
        ),
        *_marks(shown, places),
        *_times([*(moment.ts for moment in shown), now], places),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _places(times: Sequence[datetime], now: datetime) -> list[float]:
    """Horizontal places of the states' beginnings and of the end."""
    ends = [*times[1:], max(now, times[-1])]
    widths = [
        math.log1p((end - start).total_seconds() / _LEAST_S) + 0.6 for start, end in zip(times, ends, strict=True)
    ]
    wide, x = (WIDTH - LEFT - RIGHT) / sum(widths), float(LEFT)
    places = [x]
    for width in widths:
        x += wide * width
        places.append(x)
    return [round(place, 1) for place in places]


def _colours(moments: Sequence[Moment]) -> dict[str, str]:
    """A colour for each version that anybody met, in the order of their coming."""
    versions = dict.fromkeys(version for moment in moments for version in moment.shares)
    return {version: COLOURS[place % len(COLOURS)] for place, version in enumerate(versions)}


def _bars(moment: Moment, x: float, to: float, colours: dict[str, str]) -> list[str]:
    """The shares of one state on top of each other, the live model's below."""
    high, at, parts = HEIGHT - TOP - BOTTOM, float(HEIGHT - BOTTOM), list[str]()
    for version, share in moment.shares.items():
        tall = share * high
        at -= tall
        held = ' fill-opacity="0.55"' if version in moment.paused else ""
        words = f"{one_line(version)}: {100 * share:.6g} % from {_clock(moment.ts)}"
        why = f", held: {moment.paused[version]}" if version in moment.paused else ""
        parts.append(
            f'<rect x="{x}" y="{at:.1f}" width="{max(0.5, to - x):.1f}" height="{tall:.1f}" fill="{colours[version]}"'
            f"{held}><title>{escape(words + why)}</title></rect>"
        )
    return parts


def _marks(moments: Sequence[Moment], places: Sequence[float]) -> list[str]:
    """A line where something was decided, its word below when there is room."""
    floor, parts, free = HEIGHT - BOTTOM, list[str](), -1.0
    for moment, x in zip(moments, places, strict=False):
        colour, word = MARKS[moment.action]
        why = f"{moment.action} {one_line(moment.version or '')} by {one_line(moment.actor)}: {one_line(moment.reason)}"
        parts.append(
            f'<g><title>{escape(why)}</title><path d="M{x} {TOP - 6}V{floor + 10}" stroke="{colour}" stroke-width="2"/>'
            f'<circle cx="{x}" cy="{floor + 14}" r="5" fill="{colour}"/></g>'
        )
        if x >= free:
            parts.append(f'<text x="{x}" y="{floor + 36}" text-anchor="middle" fill="{colour}">{word}</text>')
            free = x + 9 * len(word)
    return parts


def _times(times: Sequence[datetime], places: Sequence[float]) -> list[str]:
    """Dates and hours of as many states as fit."""
    parts, free = list[str](), float("-inf")
    for moment, x in zip(times, places, strict=True):
        if (x >= free and x < WIDTH - 60) or moment is times[0]:
            parts.append(f'<text x="{x}" y="{HEIGHT - 36}" font-size="11">{moment:%m-%d}</text>')
            parts.append(f'<text x="{x}" y="{HEIGHT - 22}" font-size="11">{moment:%H:%M:%S}</text>')
            free = x + 64
    return parts


def _axis(floor: float) -> list[str]:
    high = HEIGHT - TOP - BOTTOM
    return [
        part
        for share in (0, 0.25, 0.5, 0.75, 1)
        for y in [round(floor - share * high, 1)]
        for part in (
            f'<path d="M{LEFT} {y}H{WIDTH - RIGHT}" stroke="currentColor" opacity="0.15"/>',
            f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{100 * share:g} %</text>',
        )
    ]


def _legend(colours: dict[str, str]) -> list[str]:
    x, parts = float(LEFT), list[str]()
    for version, colour in list(colours.items())[-6:]:
        name = one_line(version, limit=24)
        parts.append(f'<rect x="{x}" y="14" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{x + 18}" y="25">{escape(name)}</text>')
        x += 40 + 8 * len(name)
    return parts


def _title(moments: Sequence[Moment]) -> str:
    last = moments[-1]
    return f"Share of the users by model, {_clock(moments[0].ts)} to now; live: {one_line(last.live)}"


def _clock(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _empty() -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} 60" role="img" fill="currentColor">'
        '<text x="16" y="36">no model was live yet</text></svg>\n'
    )
