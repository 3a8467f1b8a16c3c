"""Chance-corrected agreement between annotators: Cohen's kappa for two, Krippendorff's alpha for any number.

Cohen, "A coefficient of agreement for nominal scales", Educational and Psychological Measurement 20 (1960), and
for weights Psychological Bulletin 70 (1968); Krippendorff, "Content Analysis" (2018), chapter 12. Point values come
from scikit-learn and ``krippendorff``; intervals are percentile bootstraps over items (Efron and Tibshirani, "An
Introduction to the Bootstrap" (1993), chapter 13).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

import numpy as np
import numpy.typing as npt

Weights = Literal["linear", "quadratic"]
Level = Literal["nominal", "ordinal", "interval"]
Kind = TypeVar("Kind", bound=Hashable)


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
    return _kappa(_pairs(a, b), weights, _scale(a, b, scale))


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
    known = _scale(a, b, scale)
    return _bootstrap(
        _pairs(a, b), lambda pairs: _kappa(pairs, weights, known), confidence=confidence, resamples=resamples, seed=seed
    )


def krippendorff_alpha(
    items: Sequence[Sequence[float | None]], *, level: Level = "nominal", scale: Sequence[float] | None = None
) -> float:
    """Agreement of any number of annotators, missing values allowed; arguments as for the interval.

    Returns:
        The coefficient; NaN where fewer than two values can be paired, or all of them are the same.

    Raises:
        ValueError: a value is not on the scale.
    """
    return _alpha(_counted(items, _values(items, scale)), level, _values(items, scale))


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
    return _bootstrap(
        _counted(items, known),
        lambda units: _alpha(units, level, known),
        confidence=confidence,
        resamples=resamples,
        seed=seed,
    )


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


def _kappa(pairs: Counter[tuple[Hashable, Hashable]], weights: Weights | None, scale: list[Hashable]) -> float:
    from sklearn.metrics import cohen_kappa_score  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    if len({one for pair in pairs for one in pair}) < 2:
        return math.nan
    place = {category: index for index, category in enumerate(scale)}
    left, right = ([place[pair[side]] for pair in pairs] for side in (0, 1))
    score = cast("Any", cohen_kappa_score)(
        left, right, labels=list(range(len(scale))), weights=weights, sample_weight=list(pairs.values())
    )
    return float(score)


def _values(items: Sequence[Sequence[float | None]], scale: Sequence[float] | None) -> list[float]:
    used = {value for item in items for value in item if value is not None}
    if scale is None:
        return sorted(used)
    if not used.issubset(scale):
        raise ValueError(f"not on the scale: {', '.join(map(str, sorted(used.difference(scale))))}")
    return list(scale)


def _counted(items: Sequence[Sequence[float | None]], scale: list[float]) -> Counter[tuple[int, ...]]:
    """How often each pattern of value counts occurs; what a unit's annotators are called does not matter."""
    patterns = (tuple(sum(value == one for value in item) for one in scale) for item in items)
    return Counter(pattern for pattern in patterns if sum(pattern) > 1)


def _alpha(units: Counter[tuple[int, ...]], level: Level, scale: list[float]) -> float:
    import krippendorff

    if sum(any(unit[index] for unit in units) for index in range(len(scale))) < 2:
        return math.nan
    counts = np.repeat(np.array(list(units), dtype=np.int64), list(units.values()), axis=0)
    return float(krippendorff.alpha(value_counts=counts, value_domain=scale, level_of_measurement=level))


def _bootstrap(
    kinds: Counter[Kind],
    statistic: Callable[[Counter[Kind]], float],
    *,
    confidence: float,
    resamples: int,
    seed: int,
) -> Agreement:
    """Resample items. Those of one kind are interchangeable, so only their number in a resample is drawn."""
    if not 0 < confidence < 1 or resamples < 1:
        raise ValueError(f"confidence {confidence} must be inside (0, 1) and resamples {resamples} at least 1")
    n = kinds.total()
    value = statistic(kinds) if n else math.nan
    if math.isnan(value):
        return Agreement(math.nan, math.nan, math.nan, n)
    share = np.array(list(kinds.values()), dtype=np.float64) / n
    draws: npt.NDArray[np.int64] = np.random.default_rng(seed).multinomial(n, share, size=resamples)
    drawn = [
        statistic(Counter({kind: int(count) for kind, count in zip(kinds, draw, strict=True) if count}))
        for draw in draws
    ]
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    return Agreement(value, float(low), float(high), n)
