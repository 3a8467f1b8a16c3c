"""Chances under the family of served policies, for many rows at once: ``policies`` and ``plackett_luce`` in numpy.

Both are held together by a test. Scores lie in arrays of one width; rows of fewer candidates are padded, and ``there``
says what is a candidate. Every row has at least one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flywheel.statistics.policies import Policy
from flywheel.statistics.units import Floats

Bools = npt.NDArray[np.bool_]
Places = npt.NDArray[np.intp]


def choice_chances(scores: Floats, policy: Policy, there: Bools | None = None) -> Floats:
    """The chance of each candidate.

    Args:
        scores: (rows, candidates), finite where a candidate is.
        policy: softmax over scores, mixed with uniform choices.
        there: (rows, candidates); default: all.

    Returns:
        (rows, candidates), 0 where none is; rows sum to 1.
    """
    found = np.ones(scores.shape, dtype=np.bool_) if there is None else there
    gaps = _gaps(scores, found)
    greedy = policy.temperature == 0
    shares = (gaps == 0).astype(np.float64) if greedy else np.exp(gaps / policy.temperature)
    shares /= shares.sum(axis=1, keepdims=True)
    return np.where(found, policy.epsilon / found.sum(axis=1, keepdims=True) + (1 - policy.epsilon) * shares, 0.0)


def prefix_log_chances(scores: Floats, policy: Policy, order: Places, there: Bools | None = None) -> Floats:
    """Log chance of every prefix of the shown lists, as ``plackett_luce.prefix_log_propensities``.

    Args:
        scores: (lists, items), finite where an item is.
        policy: Plackett-Luce over scores, mixed with uniformly drawn lists.
        order: (lists, places) columns of ``scores`` from the top; -1 below the last place of a shorter list.
        there: (lists, items); default: all.

    Returns:
        (lists, places); below the last place of a list its last value again.
    """
    found = np.ones(scores.shape, dtype=np.bool_) if there is None else there
    filled = order >= 0
    uniform = -np.cumsum(np.where(filled, np.log(_left(found, order.shape[1])), 0.0), axis=1)
    if policy.epsilon == 1:
        return uniform
    ranked = np.cumsum(np.where(filled, _steps(scores, policy.temperature, order, found), 0.0), axis=1)
    if policy.epsilon == 0:
        return np.minimum(ranked, 0.0)
    mixed = np.logaddexp(np.log(policy.epsilon) + uniform, np.log1p(-policy.epsilon) + ranked)
    return np.minimum(mixed, 0.0)


def draw_orders(
    scores: Floats, policy: Policy, shown: Bools, rng: np.random.Generator, there: Bools | None = None
) -> Places:
    """One list a row, as ``plackett_luce.draw_ranking`` draws.

    Args:
        scores: (lists, items), finite where an item is.
        policy: Plackett-Luce over scores, mixed with uniformly drawn lists.
        shown: (lists, places): which places each list has.
        rng: its state decides the lists.
        there: (lists, items); default: all.

    Returns:
        (lists, places) columns of ``scores`` from the top; -1 where there is no place.
    """
    found = np.ones(scores.shape, dtype=np.bool_) if there is None else there
    explores = rng.random((len(scores), 1)) < policy.epsilon
    gaps = np.where(found & explores, 0.0, _gaps(scores, found))
    noise = rng.gumbel(size=scores.shape)
    if policy.temperature > 0:
        order = np.argsort(-(gaps / policy.temperature + noise), axis=1)
    else:
        order = np.lexsort((-noise, -gaps), axis=1)
    return np.where(shown, order[:, : shown.shape[1]], -1)


def _left(there: Bools, places: int) -> Floats:
    """(lists, places): how many items are left for each place, 1 or more."""
    return np.maximum(there.sum(axis=1, keepdims=True) - np.arange(places), 1).astype(np.float64)


def _gaps(scores: Floats, there: Bools) -> Floats:
    """Scores relative to the row's best, -inf where no candidate is."""
    known = np.where(there, scores, -np.inf)
    return known - known.max(axis=1, keepdims=True)


def _steps(scores: Floats, temperature: float, order: Places, there: Bools) -> Floats:
    """(lists, places): log chance of each place given those above it, by Plackett-Luce alone."""
    rows = np.arange(len(order))[:, None]
    taken = np.zeros(scores.shape, dtype=np.bool_)
    filled = order >= 0
    np.put_along_axis(taken, np.where(filled, order, order[:, :1]), True, axis=1)
    gaps = _gaps(scores, there)
    below = np.where(taken, -np.inf, gaps)
    shown = np.where(filled, gaps[rows, np.maximum(order, 0)], -np.inf)
    return _greedy(shown, below) if temperature == 0 else _soft(shown / temperature, below / temperature)


def _soft(shown: Floats, below: Floats) -> Floats:
    """Each shown item's score minus the log of the sum over it and all that is left below it."""
    rest = np.logaddexp.reduce(below, axis=1, keepdims=True)
    left = np.logaddexp.accumulate(np.concatenate([rest, shown[:, ::-1]], axis=1), axis=1)[:, :0:-1]
    return np.where(np.isfinite(shown), shown - np.where(np.isfinite(left), left, 0.0), 0.0)


def _greedy(shown: Floats, below: Floats) -> Floats:
    """The best item that is left, ties evenly."""
    places = shown.shape[1]
    steps = np.empty_like(shown)
    for place in range(places):
        left = np.concatenate([shown[:, place:], below], axis=1)
        best = left.max(axis=1)
        ties = (left == best[:, None]).sum(axis=1)
        steps[:, place] = np.where(shown[:, place] == best, -np.log(ties), -np.inf)
    return steps
