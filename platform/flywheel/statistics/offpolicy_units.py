"""Rows of logged traffic as independent units, and what is concluded from one number a unit. Pure.

Rows of one person, session or key depend on each other, so spread is measured between units. An estimate that is a
ratio of sums (all are: rows a unit differ, and self-normalised estimators divide by weights) is replaced by its
linearisation: unit u counts as ``estimate + units * influence(u)``, whose mean is the estimate and whose spread is that
of the estimate (Hampel, "The influence curve and its role in robust estimation", JASA 69 (1974)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from flywheel.statistics.offpolicy_interval import mean_interval, shape
from flywheel.statistics.offpolicy_overlap import MORE, Limits, Overlap, Refusal, refusals
from flywheel.statistics.units import Estimate, Floats, Labels, codes_of


@dataclass(frozen=True)
class Units:
    """``codes``: each row's unit, from 0; ``sizes``: rows of each unit."""

    codes: npt.NDArray[np.intp]
    sizes: Floats

    @classmethod
    def of(cls, labels: Labels | None, rows: int) -> Units:
        """By label, an array of codes as it is; without labels each row is a unit.

        Raises:
            ValueError: there are not as many labels as rows.
        """
        if labels is None:
            return cls(np.arange(rows), np.ones(rows))
        if isinstance(labels, np.ndarray) and labels.dtype.kind in "iu":
            if labels.shape != (rows,):
                raise ValueError(f"{labels.shape} unit labels for {rows} rows")
            codes = np.unique(labels, return_inverse=True)[1].astype(np.intp)
        else:
            codes = codes_of(labels, rows)
        return cls(codes, np.bincount(codes).astype(np.float64))

    def sums(self, rows: Floats) -> Floats:
        """Of a number a row, its sum in each unit."""
        return np.bincount(self.codes, weights=rows, minlength=self.sizes.size).astype(np.float64)

    def ratio(self, top: Floats, bottom: Floats) -> Floats:
        """Linearised units of sum(top) / sum(bottom), both a number a row. Their mean is the ratio."""
        above, below = self.sums(top), self.sums(bottom)
        total = below.sum()
        value = above.sum() / total
        return value + (above - value * below) * (below.size / total)

    def mean(self, rows: Floats) -> Floats:
        """Linearised units of the mean over rows."""
        return self.ratio(rows, np.ones_like(rows))


@dataclass(frozen=True, slots=True)
class Valuation:
    """What a target policy would have earned, by one estimator; or why that is not known.

    Attributes:
        estimator: its name.
        value: mean outcome a row under the target; None: refused.
        gain: the same minus that of the logged policy, on the same rows; None: refused.
        overlap: how far the logged policy covers the target.
        tail: units that the interval of the value rests on (``Shape.tail``).
        refused: the reasons, if any.
    """

    estimator: str
    value: Estimate | None
    gain: Estimate | None
    overlap: Overlap
    tail: float
    refused: tuple[Refusal, ...] = ()


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is known beforehand about an outcome, and by how much an estimator can miss on average.

    Attributes:
        low: smallest possible mean outcome of a row.
        high: largest.
        down: the true value may be lower than what is estimated by so much, whatever the sample size.
        up: or higher by so much.
    """

    low: float = -np.inf
    high: float = np.inf
    down: float = 0.0
    up: float = 0.0


def conclude(
    estimator: str,
    target: Floats,
    logged: Floats,
    found: Overlap,
    *,
    bounds: Bounds,
    limits: Limits,
    confidence: float,
    also: Sequence[Refusal] = (),
) -> Valuation:
    """Intervals of value and gain, or refusals.

    Args:
        estimator: its name.
        target: linearised units of the target's value.
        logged: those of the logged policy's, same units.
        found: the overlap.
        bounds: what an outcome can be. The interval is cut to it and widened by the possible bias.
        limits: where to refuse.
        confidence: of the two-sided intervals, in (0, 1).
        also: further reasons to refuse.
    """
    spread = shape(target)
    reasons = [*also, *refusals(found, limits), *_thin(spread.error, spread.tail, limits)]
    if reasons:
        return Valuation(estimator, None, None, found, spread.tail, tuple(reasons))
    low, high = mean_interval(spread, confidence)
    value = Estimate(
        spread.mean,
        min(max(low - bounds.down, bounds.low), bounds.high),
        max(min(high + bounds.up, bounds.high), bounds.low),
        found.rows,
        found.units,
    )
    apart = shape(target - logged)
    low, high = mean_interval(apart, confidence)
    gain = Estimate(apart.mean, low - bounds.down, high + bounds.up, found.rows, found.units)
    return Valuation(estimator, value, gain, found, spread.tail)


def refuse(done: Valuation, *reasons: Refusal) -> Valuation:
    """The same without numbers, for further reasons."""
    return replace(done, value=None, gain=None, refused=(*done.refused, *reasons))


def _thin(error: float, tail: float, limits: Limits) -> list[Refusal]:
    if error == 0:
        return [
            Refusal("no_variation", "every unit counts alike, so nothing is known about chance; collect more outcomes")
        ]
    if tail < limits.min_tail:
        text = (
            f"the estimate rests on about {tail:.1f} units that stand out, and {limits.min_tail:g} are needed for an "
            f"interval: outcomes are rare, or a few weights are large; {MORE}"
        )
        return [Refusal("thin_tail", text)]
    return []
