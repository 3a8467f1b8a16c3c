"""What would another ranking have earned? Off-policy evaluation of lists with an outcome at each place. Pure, numpy.

The value is the mean over lists of the sum of outcomes over places. An outcome at place k is weighted by target over
logged chance of all that it may depend on; the less that is, the smaller the weights, and the more is assumed:

=====  ==============================================  ==========================================================
sips   the whole list                                  nothing; weights explode with the number of places
rips   the list from the top down to k                 users look from the top, and lower items change nothing above
                                                       (McInerney et al., KDD 2020)
iips   the item at k                                   an outcome depends on the item and the place alone (Li et al.,
                                                       "Offline evaluation of ranking policies with click models",
                                                       KDD 2018, item-position model)
pbm    the item, at the places where it is looked at   the chance of an outcome is that of looking at the place times
                                                       that of liking the item (ibid., section 4.4; position-based
                                                       model of Craswell et al., WSDM 2008)
=====  ==============================================  ==========================================================

``snsips``, ``snrips`` and ``sniips`` divide by the mean weight of each place: biased to the order 1 / n, less spread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from flywheel.statistics.offpolicy import nothing
from flywheel.statistics.offpolicy_bias import PositionBias, position_bias
from flywheel.statistics.offpolicy_overlap import Limits, overlap
from flywheel.statistics.offpolicy_policies import Bools
from flywheel.statistics.offpolicy_units import Bounds, Units, Valuation, conclude
from flywheel.statistics.units import Floats, Labels

ListEstimator = Literal["sips", "snsips", "rips", "snrips", "iips", "sniips", "pbm"]
LIST_ESTIMATORS: tuple[ListEstimator, ...] = get_args(ListEstimator)
BY_PLACE = frozenset({"iips", "sniips", "pbm"})
"""Need the chances of items at places."""
_MOST_LOG = 600.0
"""Of a weight; beyond it squares overflow."""


@dataclass(frozen=True)
class Lists:
    """Logged lists seen by a target policy; arrays are (lists, places), padded behind the last place of a list.

    Attributes:
        rewards: outcome at each place, from ``low`` to ``high``; 0 in the padding.
        logged: log chance of each prefix under the logged policy.
        target: the same under the target.
        shown: whether the list has the place.
        units: label of the independent unit of each list; None: each list is one.
        logged_places: (lists, places, places): chance of the item shown at i to stand at j (``place_chances``).
        target_places: the same under the target.
        drawn: (lists, places): log weights of the prefixes of lists drawn from the *target*, one a list
            (``draw_orders``). Their mean is the mean square under the logged policy, so they tell poor overlap before
            a large weight is drawn; without them sips and rips are refused too rarely.
        low: the smallest possible outcome of one place.
        high: the largest.
    """

    rewards: Floats
    logged: Floats
    target: Floats
    shown: Bools
    units: Labels | None = None
    logged_places: Floats | None = None
    target_places: Floats | None = None
    drawn: Floats | None = None
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what are no lists.

        Raises:
            ValueError: shapes differ, NaN, or an outcome that is out of range.
        """
        shape = self.rewards.shape
        if any(array.shape != shape for array in (self.logged, self.target, self.shown)) or len(shape) != 2:
            raise ValueError("rewards, logged, target and shown must have one shape: (lists, places)")
        for places in (self.logged_places, self.target_places):
            if places is not None and places.shape != (*shape, shape[1]):
                raise ValueError(f"chances at places must be of shape {(*shape, shape[1])}, not {places.shape}")
        seen = self.rewards[self.shown]
        if np.isnan(self.rewards).any() or not np.isfinite(self.logged[self.shown]).all():
            raise ValueError("a reward is NaN, or a list was shown that had no chance")
        if seen.size and not (self.low <= seen.min() and seen.max() <= self.high):
            raise ValueError(f"outcomes lie in [{seen.min():g}, {seen.max():g}], not in [{self.low:g}, {self.high:g}]")


def evaluate_lists(
    estimator: ListEstimator,
    log: Lists,
    *,
    confidence: float = 0.95,
    limits: Limits | None = None,
    unsupported: float = 0.0,
) -> Valuation:
    """Value of the target policy a list, and its gain over the logged one, or why neither is known.

    Args:
        estimator: one of ``LIST_ESTIMATORS``.
        log: the lists.
        confidence: of the two-sided intervals, in (0, 1).
        limits: where to refuse; default: ``Limits()``.
        unsupported: share of the target's lists that had no chance to be logged.

    Raises:
        ValueError: the estimator needs chances at places and there are none, or ``confidence`` is out of range.
    """
    if log.rewards.shape[0] == 0:
        return nothing(estimator)
    units = Units.of(log.units, log.rewards.shape[0])
    weights, bias = weighted(estimator, log, units)
    shares = _shares(log, bias)
    by_list = (weights * shares).sum(axis=1)
    found = overlap(
        by_list,
        units.sums(by_list),
        units.sizes,
        moments=_moments(estimator, log, shares),
        unsupported=unsupported,
    )
    places, wide = log.rewards.shape[1], (log.high - log.low) * log.rewards.shape[1]
    return conclude(
        estimator,
        linearised(estimator, log, units, weights, bias),
        units.mean(log.rewards.sum(axis=1)),
        found,
        bounds=Bounds(
            min(log.low, 0.0) * places, max(log.high, 0.0) * places, down=unsupported * wide, up=unsupported * wide
        ),
        limits=limits or Limits(),
        confidence=confidence,
        also=bias.refused if bias is not None else (),
    )


def weighted(estimator: ListEstimator, log: Lists, units: Units) -> tuple[Floats, PositionBias | None]:
    """(lists, places) weights, and for ``pbm`` the position bias that they rest on."""
    bias = position_bias(log.rewards, log.shown, _needed(log.logged_places), units) if estimator == "pbm" else None
    return place_weights(estimator, log, bias), bias


def place_weights(estimator: ListEstimator, log: Lists, bias: PositionBias | None = None) -> Floats:
    """(lists, places): what the outcome at each place is multiplied by.

    Raises:
        ValueError: ``iips`` and ``pbm`` need chances at places, ``pbm`` the position bias, too.
    """
    if estimator in ("sips", "snsips"):
        whole = np.where(log.shown, log.target - log.logged, 0.0)
        last = np.take_along_axis(whole, log.shown.sum(axis=1, keepdims=True) - 1, axis=1)
        weights = np.repeat(np.exp(np.minimum(last, _MOST_LOG)), log.rewards.shape[1], axis=1)
    elif estimator in ("rips", "snrips"):
        with np.errstate(invalid="ignore"):  # padding
            weights = np.exp(np.minimum(log.target - log.logged, _MOST_LOG))
    else:
        target, logged = _needed(log.target_places), _needed(log.logged_places)
        if estimator == "pbm":
            if bias is None:
                raise ValueError("pbm needs the position bias: call `position_bias`")
            above, below = target @ bias.looked_at, logged @ bias.looked_at
        else:
            above, below = (np.diagonal(one, axis1=1, axis2=2) for one in (target, logged))
        weights = np.divide(above, below, out=np.zeros_like(log.rewards), where=below > 0)
    return np.where(log.shown, weights, 0.0)


def linearised(
    estimator: ListEstimator, log: Lists, units: Units, weights: Floats, bias: PositionBias | None
) -> Floats:
    """One number a unit, whose mean is the estimate. ``weights`` and ``bias`` are those of ``weighted``."""
    earned = weights * log.rewards
    if not estimator.startswith("sn"):
        found = units.mean(earned.sum(axis=1))
        return found if bias is None else found + _of_bias(log, units, bias)
    total = np.zeros(units.sizes.size)
    for place in range(earned.shape[1]):
        share = units.mean(log.shown[:, place].astype(np.float64))
        if weights[:, place].any():
            each = units.ratio(earned[:, place], weights[:, place])
            total += each * share.mean() + each.mean() * (share - share.mean())
    return total


def _of_bias(log: Lists, units: Units, bias: PositionBias) -> Floats:
    """What the estimate moves by because the position bias is estimated too: derivatives times its own influence."""
    target, logged = _needed(log.target_places), _needed(log.logged_places)
    above, below = target @ bias.looked_at, logged @ bias.looked_at
    each = np.divide(log.rewards, below**2, out=np.zeros_like(below), where=below > 0)
    slopes = np.einsum("li,lij->j", each * below, target) - np.einsum("li,lij->j", each * above, logged)
    return (slopes * bias.looked_at / units.sizes.sum()) @ bias.influences


def _shares(log: Lists, bias: PositionBias | None) -> Floats:
    """(lists, places): how much the weight of each place counts in that of the list: as outcomes are found there."""
    heavy = np.abs(log.rewards).sum(axis=0) if bias is None else bias.looked_at
    shares = np.where(log.shown, heavy if heavy.any() else np.ones_like(heavy), 0.0)
    plain = shares.sum(axis=1) <= 0  # no place of the list where anything ever happened
    shares[plain] = log.shown[plain]
    return shares / shares.sum(axis=1, keepdims=True)


def _moments(estimator: ListEstimator, log: Lists, shares: Floats) -> tuple[Floats, Floats] | None:
    """Mean square and cube of the list's weight, from above (Jensen), by one draw a list from the target."""
    if log.drawn is None or estimator in BY_PLACE:
        return None
    drawn = np.where(log.shown, log.drawn, 0.0)
    if estimator in ("sips", "snsips"):
        drawn = np.take_along_axis(drawn, log.shown.sum(axis=1, keepdims=True) - 1, axis=1)
    weights = np.exp(np.minimum(drawn, _MOST_LOG / 4))
    return (weights * shares).sum(axis=1), (weights**2 * shares).sum(axis=1)


def _needed(places: Floats | None) -> Floats:
    if places is None:
        raise ValueError("give the chances of items at places under both policies: see `place_chances`")
    return places
