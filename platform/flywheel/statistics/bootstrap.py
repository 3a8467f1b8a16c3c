"""Percentile bootstrap intervals of means and paired differences.

Outcomes of few kinds (right or wrong) are resampled by counts, which takes the time of the kinds and not of the
rows; others by ``scipy.stats.bootstrap``. A million rows of many kinds take minutes: there the interval of
``sequences`` is at hand in a second.

Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapters 6 and 13; resampling of whole
clusters after Davison and Hinkley, "Bootstrap Methods and their Application" (1997), section 3.8.
"""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from scipy import stats  # pyright: ignore[reportMissingTypeStubs]

from flywheel.statistics.units import Estimate, Floats, Labels, sums_and_sizes, vector

_DRAWS_A_COUNT = 30  # drawing how often a kind occurs costs as much as drawing so many units (benchmarks/bootstrap.py)
_INDICES = 250_000  # of units, drawn at once: they stay in the cache, and scipy's own default needs gigabytes


def paired_difference(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    *,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
    clusters: Labels | None = None,
) -> Estimate:
    """Mean of ``a - b`` over paired rows: pass the candidate first, and a gain is positive.

    Args:
        a: n outcomes, bool or float.
        b: n outcomes of the same rows.
        resamples: bootstrap resamples.
        confidence: coverage of the two-sided interval, in (0, 1).
        seed: of the resampling; equal seeds give equal intervals.
        clusters: n labels, e.g. the subject of a row; rows of one cluster are resampled together.

    Raises:
        ValueError: shapes differ, no rows, NaN, or a parameter out of range.
    """
    left, right = vector(a), vector(b)
    if left.shape != right.shape:
        raise ValueError(f"paired outcomes differ in length: {left.size} and {right.size}")
    return mean_interval(left - right, resamples=resamples, confidence=confidence, seed=seed, clusters=clusters)


def mean_interval(
    values: npt.ArrayLike,
    *,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
    clusters: Labels | None = None,
) -> Estimate:
    """Mean of rows with a percentile bootstrap interval; arguments as in ``paired_difference``.

    A single row, or a single cluster, says nothing about spread: its interval is infinite.
    """
    rows = vector(values)
    if rows.size == 0:
        raise ValueError("no rows: an interval needs outcomes")
    if not 0 < confidence < 1 or resamples < 1:
        raise ValueError(f"confidence {confidence} must be inside (0, 1) and resamples {resamples} at least 1")
    sums, sizes = sums_and_sizes(rows, clusters)
    mean = float(rows.mean())
    if sums.size < 2:
        return Estimate(mean, -math.inf, math.inf, rows.size, sums.size)
    means = _resampled_means(sums, sizes, resamples, np.random.default_rng(seed))
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Estimate(mean, float(low), float(high), rows.size, sums.size)


def _resampled_means(sums: Floats, sizes: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """Means of ``resamples`` draws of as many units as there are, with replacement."""
    units = sums + 1j * sizes  # one number a unit, which sorts much faster than rows of two
    kinds, counts = np.unique(units, return_counts=True)
    if len(kinds) * _DRAWS_A_COUNT <= sums.size:
        # Units of one kind are interchangeable, so only their number in a resample matters: multinomial.
        drawn = rng.multinomial(sums.size, counts / sums.size, size=resamples)
        return (drawn @ kinds.real) / (drawn @ kinds.imag)
    even = bool((sizes == sizes[0]).all())
    found = cast("Any", stats).bootstrap(
        (sums / sizes,) if even else (sums, sizes),
        np.mean if even else _ratio,
        paired=not even,
        n_resamples=resamples,
        method="percentile",
        vectorized=True,
        batch=max(1, _INDICES // sums.size),
        rng=rng,
    )
    return np.asarray(found.bootstrap_distribution, dtype=np.float64)


def _ratio(sums: Floats, sizes: Floats, axis: int) -> Floats:
    return sums.sum(axis=axis) / sizes.sum(axis=axis)
