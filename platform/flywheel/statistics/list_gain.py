"""What another order of the same lists would have earned, from what the logged one did.

The item-position estimator (Li et al., "Offline evaluation of ranking policies with click models", KDD 2018): if what
somebody does with an item depends on the item and its place and not on the rest of the list, a reward at a place counts
by the chance that the other policy puts this item there over the chance that the logged one did. Self-normalised by
place (Swaminathan and Joachims 2015), with the interval of the difference to what was earned, both on the same lists,
by the influence function summed over people: what one person does is not independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats  # pyright: ignore[reportMissingTypeStubs]

from flywheel.statistics.units import Floats, Labels, codes_of


@dataclass(frozen=True, slots=True)
class ListGain:
    """Mean reward of a list. ``effective``: how many lists of the other policy the logged ones are worth."""

    logged: float
    other: float
    low: float
    high: float
    effective: float
    lists: int
    units: int

    @property
    def gain(self) -> float:
        """Other minus logged; ``low`` and ``high`` are about this."""
        return self.other - self.logged


def list_gain(
    rewards: npt.ArrayLike, logged: npt.ArrayLike, other: npt.ArrayLike, units: Labels, *, confidence: float = 0.95
) -> ListGain:
    """Estimate.

    Args:
        rewards: (lists, places); NaN where a list has no such place.
        logged: chance of the shown item at its place under the policy that drew the list, positive.
        other: the same under the policy in question.
        units: whose list it is.
        confidence: of the interval.

    Raises:
        ValueError: no list, shapes differ, or a logged chance is not positive.
    """
    earned, weights, present = _checked(rewards, logged, other)
    lists = len(earned)
    count = np.maximum(present.sum(axis=0), 1)
    mean_weight = np.maximum(weights.sum(axis=0) / count, 1e-300)
    was = earned.sum(axis=0) / count
    would = (weights * earned).sum(axis=0) / (mean_weight * count)
    share = present.mean(axis=0)
    change = np.where(present, weights * (earned - would) / mean_weight - (earned - was), 0.0).sum(axis=1)
    codes = codes_of(units, lists)
    sums = np.bincount(codes, weights=change)
    gain = float((share * (would - was)).sum())
    wide = np.inf
    if sums.size > 1:
        error = np.sqrt((sums**2).sum() * sums.size / (sums.size - 1)) / lists
        quantile: Any = stats.t.ppf(0.5 + confidence / 2, sums.size - 1)  # pyright: ignore[reportUnknownMemberType]
        wide = float(quantile * error)
    effective = float(weights.sum() ** 2 / (weights**2).sum() * lists / present.sum()) if weights.any() else 0.0
    value = float((share * was).sum())
    return ListGain(value, value + gain, gain - wide, gain + wide, effective, lists, int(sums.size))


def _checked(
    rewards: npt.ArrayLike, logged: npt.ArrayLike, other: npt.ArrayLike
) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
    earned, below, above = (np.asarray(values, dtype=np.float64) for values in (rewards, logged, other))
    if earned.ndim != 2 or not earned.size or earned.shape != below.shape or earned.shape != above.shape:
        raise ValueError("rewards and both chances must be tables of one shape, with at least one list")
    present = ~np.isnan(earned)
    if not (below[present] > 0).all():
        raise ValueError("a logged chance is not positive; leave out lists that nothing else could have come of")
    weights = np.divide(above, below, out=np.zeros_like(earned), where=present)
    return np.where(present, earned, 0.0), weights, present
