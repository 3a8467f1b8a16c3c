"""How well a number tells right rows from wrong ones, and how much two numbers agree; with clusters.

``auc``: the chance that a right row has the larger value (ties count half), which is the rank correlation of a number
with a yes or no: Somers' D = 2 AUC - 1. Its variance is DeLong's in the form for clustered rows: Obuchowski,
"Nonparametric analysis of clustered ROC curve data", Biometrics 53 (1997), section 3; the interval is made on the logit
scale, which keeps its promise better near 1 (Qin and Hotilovac, "Comparison of non-parametric confidence intervals for
the area under the ROC curve", Statistical Methods in Medical Research 17 (2008)).

``rank_correlation``: Spearman's rho with the delete-a-group jackknife over clusters (Kott, "The delete-a-group
jackknife", Journal of Official Statistics 17 (2001)) on Fisher's z scale.
"""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
from scipy import stats  # pyright: ignore[reportMissingTypeStubs]

from flywheel.statistics.units import Estimate, Floats, Labels, codes_of, vector

GROUPS = 20
"""Of clusters, in the jackknife; the t quantile has one degree of freedom less."""
_EDGE = 1e-9


def auc(
    scores: Floats, right: np.typing.NDArray[np.bool_], *, clusters: Labels | None = None, confidence: float = 0.95
) -> Estimate | None:
    """Area under the ROC curve with its interval; None without both a right and a wrong row.

    With fewer than two clusters of right or of wrong rows nothing is known about spread: the interval is [0, 1].
    Where the scores separate perfectly the variance would be 0; the interval then is that of as many successes in a
    row as the rarer kind has clusters (Clopper and Pearson 1934).

    Args:
        scores: n numbers.
        right: of the same rows.
        clusters: n labels, e.g. the person of a row.
        confidence: of the two-sided interval, in (0, 1).

    Raises:
        ValueError: NaN, or lengths differ.
    """
    rows = vector(scores)
    if right.shape != rows.shape:
        raise ValueError(f"{right.size} labels for {rows.size} scores")
    hits, misses = rows[right], rows[~right]
    if not hits.size or not misses.size:
        return None
    above, below = _placements(hits, misses)
    area = float(above.mean())
    codes = np.arange(rows.size) if clusters is None else codes_of(clusters, rows.size)
    units = int(codes.max()) + 1
    kinds = (len(np.unique(codes[right])), len(np.unique(codes[~right])))
    up = np.bincount(codes[right], weights=above - area, minlength=units) / hits.size
    down = np.bincount(codes[~right], weights=below - area, minlength=units) / misses.size
    deviation = _deviation(up, down, kinds)
    low, high = _interval(area, deviation, min(kinds), confidence)
    return Estimate(area, low, high, rows.size, units)


def _placements(hits: Floats, misses: Floats) -> tuple[Floats, Floats]:
    """Of each right row the share of wrong ones below it, of each wrong row the share of right ones above it."""
    both = np.concatenate([hits, misses])
    ranks, own, other = (np.asarray(cast("Any", stats).rankdata(some)) for some in (both, hits, misses))
    return (ranks[: hits.size] - own) / misses.size, 1 - (ranks[hits.size :] - other) / hits.size


def _deviation(up: Floats, down: Floats, kinds: tuple[int, int]) -> float | None:
    """Standard error of the area; None where a kind comes from one cluster only.

    Args:
        up: of each cluster, summed deviations of its right rows over the number of right rows.
        down: the same of wrong rows.
        kinds: clusters with a right row, with a wrong one.
    """
    if min(kinds) < 2:
        return None
    scale = [count / (count - 1) for count in (*kinds, up.size)]
    variance = scale[0] * (up**2).sum() + scale[1] * (down**2).sum() + 2 * scale[2] * (up * down).sum()
    return math.sqrt(max(0.0, float(variance)))


def _interval(area: float, deviation: float | None, rarer: int, confidence: float) -> tuple[float, float]:
    if deviation is None:
        return 0.0, 1.0
    if deviation < _EDGE or not _EDGE < area < 1 - _EDGE:
        bound = ((1 - confidence) / 2) ** (1 / rarer)
        return (bound, 1.0) if area > 0.5 else (0.0, 1 - bound) if area < 0.5 else (1 - bound, bound)
    wide = float(cast("Any", stats).norm.ppf((1 + confidence) / 2)) * deviation / (area * (1 - area))
    logit = math.log(area / (1 - area))
    return _logistic(logit - wide), _logistic(logit + wide)


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def rank_correlation(
    a: Floats, b: Floats, *, clusters: Labels | None = None, confidence: float = 0.95
) -> Estimate | None:
    """Spearman's rho of two numbers with its interval; None where one of them does not vary.

    With fewer than two groups nothing is known about spread: the interval is [-1, 1].

    Args:
        a: n numbers.
        b: of the same rows.
        clusters: n labels; rows of one cluster stay together.
        confidence: of the two-sided interval, in (0, 1).

    Raises:
        ValueError: NaN, or lengths differ.
    """
    left, right = vector(a), vector(b)
    if left.shape != right.shape:
        raise ValueError(f"paired numbers differ in length: {left.size} and {right.size}")
    rho = _spearman(left, right)
    if rho is None:
        return None
    codes = np.arange(left.size) if clusters is None else codes_of(clusters, left.size)
    units = int(codes.max()) + 1
    group = np.random.default_rng(0).permutation(units)[codes] % min(GROUPS, units)
    without = [_spearman(left[group != one], right[group != one]) for one in range(min(GROUPS, units))]
    parts = np.arctanh(np.clip([one for one in without if one is not None], -1 + _EDGE, 1 - _EDGE))
    if parts.size < 2:
        return Estimate(rho, -1.0, 1.0, left.size, units)
    variance = (parts.size - 1) / parts.size * float(((parts - parts.mean()) ** 2).sum())
    wide = float(cast("Any", stats).t.ppf((1 + confidence) / 2, parts.size - 1)) * math.sqrt(variance)
    centre = math.atanh(min(1 - _EDGE, max(-1 + _EDGE, rho)))
    return Estimate(rho, math.tanh(centre - wide), math.tanh(centre + wide), left.size, units)


def _spearman(a: Floats, b: Floats) -> float | None:
    if a.size < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    left, right = (np.asarray(cast("Any", stats).rankdata(some)) - (some.size + 1) / 2 for some in (a, b))
    return float(left @ right / math.sqrt(float(left @ left) * float(right @ right)))
