"""Chances of items to stand at places of a Plackett-Luce list, whatever stands elsewhere, for many lists. Pure.

Summing over all lists above a place takes 2^n sums (``plackett_luce.position_table``). As a race it takes one integral:
let item i arrive at a time that is exponential with rate exp(score / temperature); lists are orders of arrival
(Yellott, "The relationship between Luce's choice axiom, Thurstone's theory and the double exponential distribution", J.
Math. Psychology 15 (1977)). Given that i arrives at t, others have arrived before it independently of each other, so
its place has a Poisson-binomial distribution, which a small recursion gives. In log time the integrand is analytic and
falls off on both sides, where the trapezoidal rule is exact to exp(-pi^2 / step) (Trefethen and Weideman, SIAM Review
56 (2014)).
"""

from __future__ import annotations

import numpy as np

from flywheel.statistics.offpolicy_policies import Bools, Places
from flywheel.statistics.policies import Policy
from flywheel.statistics.units import Floats

_STEP = 0.3
"""Of log time: exp(-pi^2 / 0.3) is 5e-15; long lists lose some digits, 25 places are right to 1e-10."""
_BEFORE, _AFTER = 34.0, 4.0
"""Log times before the first and behind the last arrival that hold all but 1e-14 of the chance."""
_GAP = 60.0
"""Log rates further apart than this are as good as infinitely far, and are moved together: the grid stays short."""
_AT_ONCE = 400_000
"""Numbers of the recursion at a time: they stay in the cache."""


def place_chances(scores: Floats, policy: Policy, order: Places, there: Bools | None = None) -> Floats:
    """For each shown item its chance at each of the shown places.

    Args:
        scores: (lists, items), finite where an item is.
        policy: Plackett-Luce over scores, mixed with uniformly drawn lists.
        order: (lists, places) columns of ``scores`` from the top; -1 below the last place of a shorter list.
        there: (lists, items); default: all.

    Returns:
        (lists, places, places): [list, i, j] is the chance that the item shown at i stands at j; 0 where i or j is
        below the last place of the list.
    """
    found = np.ones(scores.shape, dtype=np.bool_) if there is None else there
    filled = order >= 0
    if policy.epsilon == 1:
        ranked = np.zeros((*order.shape, order.shape[1]))
    elif policy.temperature == 0:
        ranked = _greedy(scores, order, found)
    else:
        ranked = _raced(scores / policy.temperature, order, found)
    uniform = 1 / found.sum(axis=1)[:, None, None]
    mixed = policy.epsilon * uniform + (1 - policy.epsilon) * ranked
    return np.where(filled[:, :, None] & filled[:, None, :], mixed, 0.0)


def _greedy(scores: Floats, order: Places, there: Bools) -> Floats:
    """Items of equal score share their places evenly."""
    rows = np.arange(len(order))[:, None]
    shown = scores[rows, np.maximum(order, 0)]
    known = np.where(there, scores, -np.inf)
    above = (known[:, None, :] > shown[:, :, None]).sum(axis=2)[:, :, None]
    ties = np.maximum((known[:, None, :] == shown[:, :, None]).sum(axis=2), 1)[:, :, None]
    place: Places = np.arange(order.shape[1], dtype=np.intp)
    return np.where((above <= place) & (place < above + ties), 1 / ties, 0.0)


def _raced(rates: Floats, order: Places, there: Bools) -> Floats:
    """The integral, a few lists at a time."""
    lists, places = order.shape
    log_rates = _compressed(rates, there)
    span = _BEFORE + _AFTER + np.log(rates.shape[1]) - np.where(there, log_rates, 0.0).min(axis=1)
    points = int(np.ceil(span.max(initial=1.0) / _STEP)) + 1
    step = max(1, _AT_ONCE // (places * points * places))
    parts = [
        _integrated(
            log_rates[at : at + step], order[at : at + step], there[at : at + step], points, span[at : at + step]
        )
        for at in range(0, lists, step)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, places, places))


def _compressed(rates: Floats, there: Bools) -> Floats:
    """Log rates relative to the best, with gaps between neighbours of at most ``_GAP``; -inf where no item is."""
    known = np.where(there, rates, -np.inf)
    sorting = np.argsort(-known, axis=1, kind="stable")
    ordered = np.take_along_axis(known, sorting, axis=1)
    with np.errstate(invalid="ignore"):  # padding is infinitely far from itself
        gaps = np.diff(ordered, axis=1, prepend=ordered[:, :1])
    levels = np.cumsum(np.maximum(np.nan_to_num(gaps, nan=0.0, neginf=-_GAP), -_GAP), axis=1)
    packed = np.empty_like(levels)
    np.put_along_axis(packed, sorting, levels, axis=1)
    return np.where(there, packed, -np.inf)


def _integrated(log_rates: Floats, order: Places, there: Bools, points: int, span: Floats) -> Floats:
    """(lists, places, places): for each shown item the integral over its arrival of its place's distribution."""
    places = order.shape[1]
    times = -np.log(log_rates.shape[1]) - _BEFORE + span[:, None] * np.linspace(0, 1, points)
    with np.errstate(over="ignore"):
        passed = np.exp(log_rates[:, None, :] + times[:, :, None])  # (lists, points, items): rate x time
        arrived = -np.expm1(-passed)
    shown = np.where(order >= 0, order, order[:, :1])  # below the last place: the top once more, left out at the end
    own = np.take_along_axis(passed, shown[:, None, :], axis=2)
    with np.errstate(over="ignore", invalid="ignore"):
        density = np.nan_to_num(own * np.exp(-own), nan=0.0)  # of the log time of arrival
    others = arrived.copy()
    np.put_along_axis(others, np.broadcast_to(shown[:, None, :], own.shape), 0.0, axis=2)
    before = np.zeros((*times.shape, places))  # chance of so many arrivals, of items that are not shown
    before[:, :, 0] = 1.0
    for item in range(log_rates.shape[1]):
        if there[:, item].any():
            _add(before, others[:, :, item, None])
    chance = np.repeat(before[:, None], places, axis=1)  # (lists, item shown, points, arrivals)
    mine = np.where(order[:, None, :] >= 0, np.take_along_axis(arrived, shown[:, None, :], axis=2), 0.0)
    apart = 1.0 - np.eye(places)
    for place in range(places):
        _add(chance, (mine[:, None, :, place] * apart[place][None, :, None])[..., None])
    width = (span / (points - 1))[:, None, None]
    return np.einsum("lpi,lipj->lij", density, chance, optimize=True) * width


def _add(arrivals: Floats, chance: Floats) -> None:
    """One more item that may have arrived, in place; more arrivals than places are dropped."""
    more = arrivals[..., :-1] * chance
    arrivals *= 1 - chance
    arrivals[..., 1:] += more
