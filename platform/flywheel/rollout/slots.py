"""Who has which part of the assignment's line: ``TICKS`` places, each of a key's points falls on one. Pure.

A canary holds ranges of places; the live model has all others. A change resizes one holder and touches no
place of another, and what it held is a subset of what it holds after growing, and a superset after shrinking.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

TICKS = 1_000_000
"""Places on the line: shares are whole millionths."""

Range = tuple[int, int]
"""Places from the first up to, not including, the second."""


def ticks(share: float) -> int:
    """A share in places."""
    return round(share * TICKS)


def width(ranges: Iterable[Range]) -> int:
    """Places in disjoint ranges."""
    return sum(end - start for start, end in ranges)


def overlap(ranges: Iterable[Range]) -> bool:
    """Whether some place is in two ranges, or a range is empty, backwards or off the line."""
    at = 0
    for start, end in sorted(ranges):
        if start < at or end <= start or end > TICKS:
            return True
        at = end
    return False


def free(taken: Iterable[Range]) -> list[Range]:
    """The places in none of ``taken``, lowest first."""
    gaps, at = list[Range](), 0
    for start, end in sorted(taken):
        if start > at:
            gaps.append((at, start))
        at = max(at, end)
    return [*gaps, (at, TICKS)] if at < TICKS else gaps


def resized(own: Sequence[Range], others: Iterable[Range], wanted: int) -> list[Range]:
    """``own`` with ``wanted`` places: grown by the lowest free ones, or shrunk by its highest.

    Raises:
        ValueError: there are not that many places.
    """
    held = width(own)
    if wanted <= held:
        return _first(sorted(own), wanted)
    more = _first(free([*own, *others]), wanted - held)
    if held + width(more) < wanted:
        raise ValueError(f"{wanted} places wanted, {held + width(more)} are free")
    return _joined([*own, *more])


def _first(ranges: Iterable[Range], count: int) -> list[Range]:
    """The first ``count`` places of ranges, or all there are."""
    kept = list[Range]()
    for start, end in ranges:
        if count <= 0:
            break
        kept.append((start, min(end, start + count)))
        count -= end - start
    return kept


def _joined(ranges: Iterable[Range]) -> list[Range]:
    """The same places in as few ranges as possible, in order."""
    joined = list[Range]()
    for start, end in sorted(ranges):
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined
