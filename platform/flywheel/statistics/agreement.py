"""Chance-corrected agreement between annotators: Cohen's kappa for two, Krippendorff's alpha for any number.

Cohen, "A coefficient of agreement for nominal scales", Educational and Psychological Measurement 20 (1960), and
for weights Psychological Bulletin 70 (1968); Krippendorff, "Content Analysis" (2018), chapter 12, by the package
``krippendorff``. Intervals are percentile bootstraps over items (Efron and Tibshirani, "An Introduction to the
Bootstrap" (1993), chapter 13). Kappa is written out here for whole stacks of tables, because scikit-learn's takes
milliseconds a table and an interval needs a thousand.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

Weights = Literal["linear", "quadratic"]
Level = Literal["nominal", "ordinal", "interval"]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Statistic = Callable[[Ints], Floats]
"""(resamples, kinds) counts -> one coefficient a resample."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """A coefficient with its interval, all NaN where it is undefined. ``items``: what it was computed from."""

    value: float
    low: float
    high: float
    items: int


def cohen_kappa(
    a: Sequence[Hashable],
    b: Sequence[Hashable],
    *,
    weights: Weights | None = None,
    scale: Sequence[Hashable] | None = None,
) -> float:
    """Agreement of two annotators who judged the same items, 1 at most, 0 where it is what chance gives.

    Args:
        a: n categories, one an item.
        b: the other annotator's, in the same order.
        weights: for ordered categories: how much a disagreement costs by its distance on the scale; none: all alike.
        scale: all categories in their order; default: those that occur, sorted by value, which for weights is only
            right if every step of the scale occurs.

    Returns:
        The coefficient; NaN without items, or where both used one and the same category throughout (0 / 0).

    Raises:
        ValueError: the two differ in length, or use a category that is not on the scale.
    """
    kinds = _pairs(a, b)
    return float(_kappas(kinds, weights, _scale(a, b, scale))(_counts(kinds))[0])


def cohen_kappa_interval(
    a: Sequence[Hashable],
    b: Sequence[Hashable],
    *,
    weights: Weights | None = None,
    scale: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
    resamples: int = 1_000,
    seed: int = 0,
) -> Agreement:
    """``cohen_kappa`` with a bootstrap interval; resamples in which it is undefined are left out."""
    kinds = _pairs(a, b)
    statistic = _kappas(kinds, weights, _scale(a, b, scale))
    return _bootstrap(_counts(kinds), statistic, confidence=confidence, resamples=resamples, seed=seed)


def krippendorff_alpha(
    items: Sequence[Sequence[float | None]], *, level: Level = "nominal", scale: Sequence[float] | None = None
) -> float:
    """Agreement of any number of annotators, missing values allowed; arguments as for the interval.

    Returns:
        The coefficient; NaN where fewer than two values can be paired, or all of them are the same.

    Raises:
        ValueError: a value is not on the scale.
    """
    known = _values(items, scale)
    kinds = _patterns(items, known)
    return float(_alphas(kinds, level, known)(_counts(kinds))[0])


def krippendorff_alpha_interval(
    items: Sequence[Sequence[float | None]],
    *,
    level: Level = "nominal",
    scale: Sequence[float] | None = None,
    confidence: float = 0.95,
    resamples: int = 1_000,
    seed: int = 0,
) -> Agreement:
    """``krippendorff_alpha`` with a bootstrap interval.

    Args:
        items: for each item the values that annotators gave it, in any order; None where one gave none. Items with
            fewer than two values say nothing and are not counted.
        level: how values differ: not at all in degree, by rank, or by their difference.
        scale: all values there are, in their order; default: those that occur.
        confidence: coverage of the two-sided interval, in (0, 1).
        resamples: bootstrap resamples of items.
        seed: of the resampling.
    """
    known = _values(items, scale)
    kinds = _patterns(items, known)
    statistic = _alphas(kinds, level, known)
    return _bootstrap(_counts(kinds), statistic, confidence=confidence, resamples=resamples, seed=seed)


def _pairs(a: Sequence[Hashable], b: Sequence[Hashable]) -> Counter[tuple[Hashable, Hashable]]:
    if len(a) != len(b):
        raise ValueError(f"both must have judged the same items, not {len(a)} and {len(b)}")
    return Counter(zip(a, b, strict=True))


def _scale(a: Sequence[Hashable], b: Sequence[Hashable], scale: Sequence[Hashable] | None) -> list[Hashable]:
    used = {*a, *b}
    if scale is None:
        return sorted(used, key=lambda one: (str(type(one)), cast("Any", one)))
    if not used.issubset(scale):
        raise ValueError(f"not on the scale: {', '.join(sorted(map(str, used.difference(scale))))}")
    return list(scale)


def _kappas(kinds: Counter[tuple[Hashable, Hashable]], weights: Weights | None, scale: list[Hashable]) -> Statistic:
    """Counts of each pair of categories, (R, kinds) -> R coefficients: 1 - observed / expected disagreement."""
    place = {category: index for index, category in enumerate(scale)}
    left, right = (np.array([place[kind[side]] for kind in kinds], dtype=np.intp) for side in (0, 1))
    steps = np.abs(np.subtract.outer(np.arange(len(scale)), np.arange(len(scale)))).astype(np.float64)
    cost = (steps > 0).astype(np.float64) if weights is None else steps ** (1 if weights == "linear" else 2)
    into_left, into_right = np.eye(len(scale))[left], np.eye(len(scale))[right]

    def kappas(counts: Ints) -> Floats:
        observed = counts @ cost[left, right]
        expected = np.einsum("ri,ij,rj->r", counts @ into_left, cost, counts @ into_right)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(expected > 0, 1 - observed * counts.sum(axis=1) / expected, math.nan)

    return kappas


def _values(items: Sequence[Sequence[float | None]], scale: Sequence[float] | None) -> list[float]:
    used = {value for item in items for value in item if value is not None}
    if scale is None:
        return sorted(used)
    if not used.issubset(scale):
        raise ValueError(f"not on the scale: {', '.join(map(str, sorted(used.difference(scale))))}")
    return list(scale)


def _patterns(items: Sequence[Sequence[float | None]], scale: list[float]) -> Counter[tuple[int, ...]]:
    """How often each pattern of value counts occurs; what a unit's annotators are called does not matter."""
    patterns = (tuple(sum(value == one for value in item) for one in scale) for item in items)
    return Counter(pattern for pattern in patterns if sum(pattern) > 1)


def _alphas(kinds: Counter[tuple[int, ...]], level: Level, scale: list[float]) -> Statistic:
    """Counts of each pattern, (R, kinds) -> R coefficients."""
    import krippendorff

    patterns = np.array(list(kinds), dtype=np.int64).reshape(len(kinds), len(scale))

    def alpha(count: Ints) -> float:
        units = np.repeat(patterns, count, axis=0)
        if (units.sum(axis=0) > 0).sum() < 2:
            return math.nan
        return float(krippendorff.alpha(value_counts=units, value_domain=scale, level_of_measurement=level))

    return lambda counts: np.array([alpha(count) for count in counts], dtype=np.float64)


def _counts(kinds: Counter[Any]) -> Ints:
    return np.array([list(kinds.values())], dtype=np.int64)


def _bootstrap(counts: Ints, statistic: Statistic, *, confidence: float, resamples: int, seed: int) -> Agreement:
    """Resample items. Those of one kind are interchangeable, so only their number in a resample is drawn."""
    if not 0 < confidence < 1 or resamples < 1:
        raise ValueError(f"confidence {confidence} must be inside (0, 1) and resamples {resamples} at least 1")
    n, value = int(counts.sum()), float(statistic(counts)[0])
    if math.isnan(value):
        return Agreement(math.nan, math.nan, math.nan, n)
    drawn = statistic(np.random.default_rng(seed).multinomial(n, counts[0] / n, size=resamples))
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    return Agreement(value, float(low), float(high), n)
