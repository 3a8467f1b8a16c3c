"""Did a reaction become more favourable than right answers can explain?

A reaction such as a thumb depends on whether the answer is right, so its mean is m_wrong + s * A with the share A of
right answers and s = m_right - m_wrong. As long as people react to right and to wrong answers as before, a change of A
by d changes the mean by s * d and by nothing else. What goes beyond is inflation: equally good answers are liked more.
It needs far fewer labels than showing that A fell, because the mean is known from all reactions, and the few labels
enter only through s * d.

Only for what people do with an answer. Signals that a model computes move with the whole population of answers, without
anybody gaming anything.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from flywheel.quality.goodhart.tables import Rows

LEAST = 5
"""Labelled people with a reaction, of right answers and of wrong ones, before it is known how people react."""


class Inflation(NamedTuple):
    """Change of a mean, how much of it a change of quality explains, and the one-sided p-value that nothing is left."""

    change: float
    explained: float
    p_value: float


class _Mean(NamedTuple):
    value: float
    variance: float
    people: int


def inflation(now: Rows, before: Rows, name: str, *, sign: int = 1) -> Inflation | None:
    """Of one reaction between two sets of rows; None where too few people are known.

    The variance is that of (P1 - P0) - s (A1 - A0) by the delta method over people. Reactions and labels of the same
    people go together, which would make it smaller; that is left out, on the cautious side. Student's t with the
    degrees of freedom of the smallest group.
    """
    later, earlier = (_mean(rows.people, sign * rows.signals[name]) for rows in (now, before))
    right_now, right_before = (_mean(rows.people, rows.truth) for rows in (now, before))
    means = [
        _mean(before.people[chosen], sign * before.signals[name][chosen])
        for chosen in (before.truth == 1, before.truth == 0)
    ]
    right, wrong = means
    if min(right.people, wrong.people) < LEAST or min(right_now.people, later.people) < 2:
        return None
    slope, shift = right.value - wrong.value, right_now.value - right_before.value
    variance = later.variance + earlier.variance + slope**2 * (right_now.variance + right_before.variance)
    variance += shift**2 * (right.variance + wrong.variance)
    change, explained = later.value - earlier.value, slope * shift
    if variance <= 0:
        return Inflation(change, explained, 1.0)
    freedom = min(one.people for one in (later, earlier, right_now, right_before)) - 1
    p = float(cast("Any", stats).t.sf((change - explained) / math.sqrt(variance), freedom))
    return Inflation(change, explained, p)


def _mean(people: NDArray[np.int64], values: NDArray[np.float64]) -> _Mean:
    """Mean over people of each person's mean, and its variance."""
    known = ~np.isnan(values)
    if not known.any():
        return _Mean(math.nan, math.inf, 0)
    _, codes = np.unique(people[known], return_inverse=True)
    each = np.bincount(codes, weights=values[known]) / np.bincount(codes)
    spread = float(each.var(ddof=1)) / each.size if each.size > 1 else math.inf
    return _Mean(float(each.mean()), spread, each.size)
