"""Intervals of means whose rows may be very unequal, as importance-weighted outcomes are. Pure.

Of such a mean the symmetric interval misses on one side: where large values are rare, a sample without them has a low
mean *and* a low spread. Hall, "On the removal of skewness by transformation", JRSS-B 54 (1992), section 2, transforms
the studentised mean by a cubic that removes the skewness of its distribution to the order 1/n, and inverts it. The
interval is found in one pass without resampling, so it costs the same for a hundred units and for ten million, and has
no seed. ``benchmarks/offpolicy.py`` has it beside Student's, the percentile bootstrap, the studentised bootstrap
and the empirical Bernstein interval.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np
from scipy import stats  # pyright: ignore[reportMissingTypeStubs]

from flywheel.statistics.units import Floats


class Shape(NamedTuple):
    """What an interval of a mean rests on.

    Attributes:
        mean: of the units.
        error: its standard error; infinite for a single unit.
        skewness: of the units; 0 where they do not vary.
        units: how many.
    """

    mean: float
    error: float
    skewness: float
    units: int

    @property
    def tail(self) -> float:
        """Units over squared skewness: about how many units make up the thinner tail of the sample.

        Of n units of which j stand out alike it is about j, so it counts the observations that the interval's longer
        arm rests on, whether they are rare outcomes or large weights. Infinite for symmetric units.
        """
        return self.units / self.skewness**2 if self.skewness else float("inf")


def shape(values: Floats) -> Shape:
    """Mean, standard error and skewness of independent units. At least one."""
    mean, units = float(values.mean()), values.size
    if units < 2:
        return Shape(mean, float("inf"), 0.0, units)
    apart = values - mean
    square = float((apart**2).mean())
    scale = max(1.0, float(np.abs(values).max()))
    if square <= (1e-12 * scale) ** 2:  # nothing but rounding
        return Shape(mean, 0.0, 0.0, units)
    skewness = float((apart**3).mean()) / square**1.5
    return Shape(mean, (square / (units - 1)) ** 0.5, skewness, units)


def mean_interval(found: Shape, confidence: float) -> tuple[float, float]:
    """The two-sided interval of the mean; infinite for a single unit.

    Args:
        found: of the units (``shape``).
        confidence: in (0, 1).

    Raises:
        ValueError: ``confidence`` is out of range.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence} must be inside (0, 1)")
    if found.units < 2:
        return -float("inf"), float("inf")
    reach = float(cast("Any", stats).t.ppf((1 + confidence) / 2, found.units - 1))
    low, high = _straightened(reach, found), _straightened(-reach, found)
    return found.mean - low * found.error, found.mean - high * found.error


def _straightened(quantile: float, found: Shape) -> float:
    """Hall's inverse transformation: the quantile of the studentised mean, given that of its symmetric relative.

    With a = skewness / sqrt(n) it is g(t) = t + a t^2 / 3 + a^2 t^3 / 27 + a / 6: a cube but for shifts.
    """
    a = found.skewness / found.units**0.5
    if abs(a) < 1e-9:
        return quantile
    return 3 / a * (float(np.cbrt(1 + a * (quantile - a / 6))) - 1)
