"""How much larger is a typical value? The ratio of two medians over the same rows, with a bootstrap interval.

Medians, because times and lengths have long tails; resampling of whole clusters after Davison and Hinkley,
"Bootstrap Methods and their Application" (1997), section 3.8.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from flywheel.statistics.bootstrap import Estimate

Floats = npt.NDArray[np.float64]
_CELLS = 4_000_000  # weights held at once
_WORK = 400_000_000  # weights drawn at most: past 40,000 rows fewer resamples do, as intervals are narrow there
_FEWEST = 200


def median_ratio(
    after: npt.ArrayLike,
    before: npt.ArrayLike,
    *,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 2_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """``median(after) / median(before)`` of paired rows, with a percentile interval.

    The median is the lower one, so that it is a value that occurs. Both medians of a resample come from the same
    rows.

    Args:
        after: n positive or zero values.
        before: n values of the same rows.
        clusters: n labels; rows of one cluster are drawn together.
        resamples: bootstrap resamples; fewer are drawn of very many rows.
        confidence: coverage of the two-sided interval, in (0, 1).
        seed: of the resampling.

    Returns:
        The ratio; not finite where the earlier median is 0, and with an infinite interval for a single cluster.

    Raises:
        ValueError: shapes differ or there are no rows.
    """
    top, bottom = np.asarray(after, dtype=np.float64), np.asarray(before, dtype=np.float64)
    if top.ndim != 1 or top.shape != bottom.shape or top.size == 0:
        raise ValueError(f"two rows of as many numbers are needed, not of shapes {top.shape} and {bottom.shape}")
    labels = range(top.size) if clusters is None else clusters
    number: dict[Hashable, int] = {}
    codes = np.array([number.setdefault(label, len(number)) for label in labels], dtype=np.intp)
    every = np.ones((1, top.size))
    ratio = float(_ratios(top, bottom, every)[0])
    if len(number) < 2:
        return Estimate(ratio, -math.inf, math.inf, top.size, len(number))
    rng = np.random.default_rng(seed)
    left = max(_FEWEST, min(resamples, _WORK // top.size))
    step = max(1, _CELLS // top.size)
    even = np.full(len(number), 1 / len(number))
    drawn: list[Floats] = []
    while left > 0:
        weights = rng.multinomial(len(number), even, size=min(step, left))[:, codes].astype(np.float64)
        drawn.append(_ratios(top, bottom, weights))
        left -= len(weights)
    tail = (1 - confidence) / 2
    with np.errstate(invalid="ignore"):  # between two infinite ratios
        low, high = np.quantile(np.concatenate(drawn), [tail, 1 - tail])
    return Estimate(ratio, float(low), float(high), top.size, len(number))


def _ratios(after: Floats, before: Floats, weights: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return _medians(after, weights) / _medians(before, weights)


def _medians(values: Floats, weights: Floats) -> Floats:
    """The weighted lower median for each row of ``weights`` (resamples x n)."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[:, order], axis=1)
    return values[order][(2 * reached >= reached[:, -1:]).argmax(axis=1)]
