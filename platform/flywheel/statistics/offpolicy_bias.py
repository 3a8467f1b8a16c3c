"""Position bias from logged exposure: how much less a place is looked at than the one above it. Pure, numpy.

Under the position-based model an outcome at place k has the chance theta_k * gamma(item). Lists were drawn by chance,
so the same item stood now here, now there, and each place's outcomes can be weighted to the same mix of items
("intervention harvesting": Agarwal et al., WSDM 2019; by swaps: Joachims, Swaminathan and Schnabel, WSDM 2017). Of
neighbouring places j and k, items count by p_j p_k / (p_j + p_k), with p their logged chances at both: an outcome at j
then has the weight p_k / (p_j + p_k), never above 1, and items that could stand at one only have none. The ratio
of both sums estimates theta_k / theta_j; products from the top give theta relative to the first place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flywheel.statistics.offpolicy_interval import mean_interval, shape
from flywheel.statistics.offpolicy_overlap import Refusal
from flywheel.statistics.offpolicy_policies import Bools
from flywheel.statistics.offpolicy_units import Units
from flywheel.statistics.units import Estimate, Floats

MIN_EFFECTIVE = 10.0
"""Effective number of outcomes at a place, among items that might have stood at its neighbour."""


@dataclass(frozen=True)
class PositionBias:
    """Theta, relative to the first place.

    Attributes:
        looked_at: (places,), the first is 1; 1 from a place on that nothing is known of.
        influences: (places, units): linearised log of it, around 0.
        refused: why it is not known.
    """

    looked_at: Floats
    influences: Floats
    refused: tuple[Refusal, ...] = ()

    def estimates(self, confidence: float = 0.95) -> list[Estimate]:
        """Each place's bias with its interval (on the log scale, where it is more nearly symmetric)."""
        found: list[Estimate] = []
        for value, influence in zip(self.looked_at.tolist(), self.influences, strict=True):
            low, high = mean_interval(shape(influence), confidence)
            units = influence.size
            found.append(Estimate(value, float(value * np.exp(low)), float(value * np.exp(high)), units, units))
        return found


def position_bias(rewards: Floats, shown: Bools, logged_places: Floats, units: Units) -> PositionBias:
    """Estimate it.

    Args:
        rewards: (lists, places), not negative.
        shown: (lists, places): whether the list has the place.
        logged_places: (lists, places, places): chance of the item shown at i to stand at j.
        units: independent units of the lists.

    Raises:
        ValueError: a negative outcome: the model is about things done, not about opinions.
    """
    if (rewards < 0).any():
        raise ValueError("the position-based model needs outcomes that are not negative; use rips or iips")
    places = rewards.shape[1]
    looked_at, influences = np.ones(places), np.zeros((places, units.sizes.size))
    for place in range(1, places):
        both = shown[:, place]
        above = _balanced(rewards, logged_places, place - 1, place, both)
        below = _balanced(rewards, logged_places, place, place - 1, both)
        sums = units.sums(above), units.sums(below)
        if min(_effective(one) for one in sums) < MIN_EFFECTIVE:
            return PositionBias(looked_at, influences, (_unknown(place),))
        ratio = [one / one.sum() * one.size for one in sums]
        looked_at[place] = looked_at[place - 1] * below.sum() / above.sum()
        influences[place] = influences[place - 1] + ratio[1] - ratio[0]
    return PositionBias(looked_at, influences)


def _balanced(rewards: Floats, chances: Floats, place: int, other: int, both: Bools) -> Floats:
    """Outcomes at ``place``, weighted to the items that might have stood at either."""
    here, there = chances[:, place, place], chances[:, place, other]
    weights = np.divide(there, here + there, out=np.zeros_like(here), where=both & (here > 0))
    return np.where(both, rewards[:, place] * weights, 0.0)


def _effective(sums: Floats) -> float:
    total = float(sums.sum())
    return total**2 / float((sums**2).sum()) if total > 0 else 0.0


def _unknown(place: int) -> Refusal:
    text = (
        f"how much less place {place + 1} is looked at than place {place} is not known: too few outcomes there of "
        "items that might have stood at the other; log with epsilon above 0, collect more, or use rips"
    )
    return Refusal("no_position_bias", text)
