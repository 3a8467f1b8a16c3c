"""Bursts: far more rows of one actor in a short time than others ever give.

Judged against the flow itself, not against a clock: an import gives all its rows one time, and a demo is a day in
ten minutes. What is usual is a high quantile of all actors' own peaks.
"""

from __future__ import annotations

import numpy as np

from flywheel.quality.trust.statements import Bools, Floats, Ints

USUAL = 0.95
"""Quantile of the actors' peaks that counts as usual."""


def in_window(group: Ints, at: Floats, seconds: float) -> Ints:
    """By row: the rows of its group in the fullest window of ``seconds`` that starts at a row and covers this one."""
    if not len(group):
        return np.zeros(0, dtype=np.int64)
    order = np.lexsort((at, group))
    # One sorted axis for all groups: each starts after the end of the one before, with a window's space between.
    span = float(at.max() - at.min()) + 2 * seconds
    place = (at[order] - at.min()) + group[order] * span
    ends = np.searchsorted(place, place + seconds, side="right")
    starts = np.searchsorted(place, place - seconds, side="left")
    counts = ends - np.arange(len(place))
    fullest = _maximum(counts, starts)
    result = np.zeros(len(group), dtype=np.int64)
    result[order] = fullest
    return result


def peaks(group: Ints, windows: Ints, groups: int) -> Ints:
    """By group: its fullest window."""
    found = np.zeros(groups, dtype=np.int64)
    np.maximum.at(found, group, windows)
    return found


def bursting(group: Ints, at: Floats, *, groups: int, seconds: float, factor: float, least: int) -> Bools:
    """Rows in windows that hold ``least`` rows and ``factor`` times what is usual for the fullest window of a group."""
    windows = in_window(group, at, seconds)
    usual = float(np.quantile(peaks(group, windows, groups), USUAL)) if groups else 0.0
    return windows >= max(least, factor * usual)


def _maximum(counts: Ints, starts: Ints) -> Ints:
    """``counts[starts[i]..i].max()`` for ascending ``starts``: a sparse table over powers of two."""
    place = np.arange(len(counts))
    width = place - starts + 1
    level = np.floor(np.log2(width)).astype(np.int64)
    table = counts.copy()
    result = np.zeros_like(counts)
    for power in range(int(level.max(initial=0)) + 1):
        if power:
            half = 1 << (power - 1)
            table = np.maximum(table[:-half], table[half:]) if len(table) > half else table
        mine = np.flatnonzero(level == power)
        result[mine] = np.maximum(table[starts[mine]], table[mine - (1 << power) + 1])
    return result
