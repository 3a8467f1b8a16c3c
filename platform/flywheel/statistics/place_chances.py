"""How likely an item was to stand where it stood, for many lists at once, from the scores that drew them.

The gateway logs that chance where it is cheap (``plackett_luce.position_propensities``) and leaves it empty below the
top of a long list, where it is a sum over all sets of items that can stand above. Here it is an average over drawn
lists: given the items above a place, the chance of the item there is a softmax over what is left, so that a few draws
are enough (Rao and Blackwell: Casella and Robert, Biometrika 83 (1996)). The same seed gives two policies the same
draws, and their ratio less noise.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flywheel.statistics.policies import Policy

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

CELLS = 4_000_000
"""Numbers in memory at a time: lists x draws x items."""


def place_chances(scores: Floats, shown: Indices, policy: Policy, *, draws: int = 32, seed: int = 0) -> Floats:
    """The chance of each shown item to stand at its place, whatever stands elsewhere.

    Args:
        scores: (lists, items), finite.
        shown: (lists, places) the index of the item at each place, the top first; all different within a list.
        policy: temperature of Plackett-Luce and the share of uniform lists.
        draws: lists drawn for each list; not needed at temperature 0, where the chances are exact.
        seed: of the draws.

    Returns:
        (lists, places), each at least ``policy.epsilon / items``.
    """
    items = scores.shape[1]
    if policy.epsilon >= 1:
        return np.full(shown.shape, 1 / items)
    ranked = (
        _greedy(scores, shown) if policy.temperature == 0 else _drawn(scores / policy.temperature, shown, draws, seed)
    )
    return policy.epsilon / items + (1 - policy.epsilon) * ranked


def _greedy(scores: Floats, shown: Indices) -> Floats:
    """At temperature 0 items of equal score share their places evenly, and the others have one each."""
    own = np.take_along_axis(scores, shown, axis=1)[:, :, None]
    above = (scores[:, None, :] > own).sum(axis=2)
    ties = (scores[:, None, :] == own).sum(axis=2)
    place: Indices = np.arange(shown.shape[1], dtype=np.intp)
    return np.where((place >= above) & (place < above + ties), 1 / ties, 0.0)


def _drawn(logits: Floats, shown: Indices, draws: int, seed: int) -> Floats:
    chances = np.empty(shown.shape)
    size = max(1, CELLS // (draws * logits.shape[1]))
    for number, start in enumerate(range(0, len(logits), size)):
        part = slice(start, start + size)
        rng = np.random.default_rng([seed, number])
        chances[part] = _averaged(logits[part], shown[part], draws, rng)
    return chances


def _averaged(logits: Floats, shown: Indices, draws: int, rng: np.random.Generator) -> Floats:
    """Mean over drawn lists of the chance of each shown item at its place, given what the draw has above it.

    In logarithms: of items far below the best, ``exp(score)`` would be 0, and so would the sum over what is left.
    """
    lists, items = logits.shape
    places: Indices = np.arange(shown.shape[1], dtype=np.intp)
    noisy = logits[:, None, :] + rng.gumbel(size=(lists, draws, items))  # sorted, a draw from Plackett-Luce
    order = np.argsort(-noisy, axis=2)
    placed = np.take_along_axis(np.broadcast_to(logits[:, None, :], order.shape), order, axis=2)
    left = np.logaddexp.accumulate(placed[:, :, ::-1], axis=2)[:, :, ::-1]  # log of the sum over this place and below
    rank = np.empty_like(order)
    numbers: Indices = np.arange(items, dtype=np.intp)
    np.put_along_axis(rank, order, np.broadcast_to(numbers, order.shape), axis=2)
    wanted = np.broadcast_to(shown[:, None, :], (lists, draws, places.size))
    free = np.take_along_axis(rank, wanted, axis=2) >= places  # not taken for a place above
    own = np.take_along_axis(logits, shown, axis=1)[:, None, :]
    return np.where(free, np.exp(np.minimum(own - left[:, :, : places.size], 0.0)), 0.0).mean(axis=1)
