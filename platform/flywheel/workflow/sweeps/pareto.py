"""Quality against volume: the proposals that no other beats in both. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flywheel.workflow.sweeps.outcomes import Outcome

FEWEST = 5
"""Kept labelled rows below which a share of right ones says nothing; such proposals are on no front."""


def front(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Those that nothing dominates, by rising volume and falling quality; of equals one, with the fewest changes."""
    known = [one for one in outcomes if one.kept >= FEWEST]
    known.sort(key=lambda one: (-one.volume, -one.quality, len(one.params)))
    found: list[Outcome] = []
    for one in known:
        if not found or one.quality > found[-1].quality:
            found.append(one)
    return found[::-1]


def hypervolume(points: Sequence[Outcome]) -> float:
    """Area under a front, seen from (0, 0): at most 1, and larger is better (Zitzler and Thiele 1998)."""
    area, below = 0.0, 0.0
    for one in sorted(points, key=lambda point: point.volume):
        area += (one.volume - below) * max(p.quality for p in points if p.volume >= one.volume)
        below = one.volume
    return area


def spread(points: Sequence[Outcome], count: int) -> list[Outcome]:
    """``count`` points of a front, evenly over its places, the ends among them."""
    if count >= len(points):
        return list(points)
    if count <= 1:
        return list(points[:count])
    last = len(points) - 1
    return [points[round(place * last / (count - 1))] for place in range(count)]
