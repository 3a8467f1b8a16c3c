"""Percentile bootstrap intervals of means and paired differences.

Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapters 6 and 13; resampling of whole
clusters after Davison and Hinkley, "Bootstrap Methods and their Application" (1997), section 3.8.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from flywheel.statistics.units import Estimate, Floats, Labels, sums_and_sizes, vector

_MAX_KINDS = 64  # up to here drawing the counts of the kinds is cheaper than drawing rows
_CHUNK = 4_000_000  # indices held at once


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
    kinds, counts = np.unique(np.column_stack([sums, sizes]), axis=0, return_counts=True)
    if len(kinds) <= _MAX_KINDS:
        # Units of one kind are interchangeable, so only their number in a resample matters: multinomial.
        drawn = rng.multinomial(sums.size, counts / sums.size, size=resamples)
        return (drawn @ kinds[:, 0]) / (drawn @ kinds[:, 1])
    means = np.empty(resamples)
    step = max(1, _CHUNK // sums.size)
    for start in range(0, resamples, step):
        chosen = rng.integers(0, sums.size, size=(min(step, resamples - start), sums.size))
        means[start : start + step] = sums[chosen].sum(axis=1) / sizes[chosen].sum(axis=1)
    return means
