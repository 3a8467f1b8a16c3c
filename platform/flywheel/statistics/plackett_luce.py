"""Random rankings with exact chances: Plackett-Luce by scores, mixed with uniform ones. Pure, no I/O.

Plackett-Luce (Luce 1959; Plackett 1975) fills the places from the top, each by a softmax over what is left. Sorting
by ``score / temperature`` plus Gumbel noise draws from it (Yellott 1977). Of each list the chance of every prefix is
known: what a user saw is a prefix, however far they scrolled.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cmp_to_key

from flywheel.statistics.policies import Policy, softmax

EXACT_ITEMS = 6
"""Up to so many items the chance of an item at a place is summed over all sets that can stand above it (64)."""


@dataclass(frozen=True)
class RankedDraw:
    """One drawn list.

    Attributes:
        order: indices of the items that are shown, the top first.
        prefix_log_propensities: for each place the log chance of the list down to it; the last is that of the list.
        position_propensities: for each place the chance that this item stands at this place, over all lists;
            None where it is not cheap to know: below the top of a long list.
    """

    order: list[int]
    prefix_log_propensities: list[float]
    position_propensities: list[float | None]


def draw_ranking(scores: Sequence[float], policy: Policy, *, shown: int, rng: random.Random) -> RankedDraw:
    """Draw the first ``shown`` places of a list of all items.

    Args:
        scores: one an item, finite (``policies.unusable``).
        policy: temperature of Plackett-Luce, and the share of uniformly drawn lists.
        shown: places, from 1 to the number of items.
        rng: its state decides the list.
    """
    explores = rng.random() < policy.epsilon
    noise = [_gumbel(rng) for _ in scores]
    order = _sorted([0.0] * len(scores) if explores else scores, policy.temperature, noise)[:shown]
    return RankedDraw(
        order, prefix_log_propensities(scores, policy, order), position_propensities(scores, policy, order)
    )


def given_ranking(count: int, *, shown: int) -> RankedDraw:
    """The first ``shown`` of ``count`` items in the order they have: what is certain has the chance 1."""
    return RankedDraw(list(range(min(shown, count))), [0.0] * min(shown, count), [1.0] * min(shown, count))


def prefix_log_propensities(scores: Sequence[float], policy: Policy, order: Sequence[int]) -> list[float]:
    """Log chance of each prefix of ``order`` (indices of different items, not necessarily all) under ``policy``."""
    ranked, uniform = _log_plackett_luce(scores, policy.temperature, order), _log_uniform(len(scores), len(order))
    if policy.epsilon == 0:
        return ranked
    if policy.epsilon == 1:
        return uniform
    explore, exploit = math.log(policy.epsilon), math.log1p(-policy.epsilon)
    mixed = (_log_sum(explore + one, exploit + other) for one, other in zip(uniform, ranked, strict=True))
    return [min(log, 0.0) for log in mixed]  # of a certain list the sum may come out above 0 by rounding


def position_propensities(scores: Sequence[float], policy: Policy, order: Sequence[int]) -> list[float | None]:
    """Chance of each item of ``order`` to stand where it does, whatever stands elsewhere; None: not cheap."""
    count = len(scores)
    if policy.epsilon == 1:
        return [1 / count] * len(order)
    ranked: list[float | None]
    if policy.temperature == 0:
        ascending = sorted(scores)
        ranked = [_tied_place(ascending, scores[index], place) for place, index in enumerate(order)]
    elif count <= EXACT_ITEMS:
        table = position_table(scores, policy.temperature, places=len(order))
        ranked = [table[place][index] for place, index in enumerate(order)]
    else:
        ranked = [softmax(scores, policy.temperature)[order[0]], *[None] * (len(order) - 1)]
    floor = policy.epsilon / count
    return [None if chance is None else floor + (1 - policy.epsilon) * chance for chance in ranked]


def position_table(scores: Sequence[float], temperature: float, *, places: int) -> list[list[float]]:
    """Chance of every item at each of the first ``places`` under Plackett-Luce: rows are places, columns items.

    Exact by dynamic programming over the sets of items that can stand above a place: 2^n of them.
    """
    count = len(scores)
    table = [[0.0] * count for _ in range(places)]
    above = {0: 1.0}  # sets as bits -> their chance
    for place in range(places):
        following: dict[int, float] = {}
        for taken, chance in above.items():
            left = [index for index in range(count) if not taken >> index & 1]
            shares = softmax([scores[index] for index in left], temperature)
            for index, share in zip(left, shares, strict=True):
                table[place][index] += chance * share
                following[taken | 1 << index] = following.get(taken | 1 << index, 0.0) + chance * share
        above = following
    return table


def _gumbel(rng: random.Random) -> float:
    return -math.log(-math.log(rng.random() or 5e-324))


def _sorted(scores: Sequence[float], temperature: float, noise: Sequence[float]) -> list[int]:
    """Indices by score / temperature + noise, the highest first.

    Pairs are compared by their differences: adding noise to a large score would round the noise away, and with it
    the chances of items that are nearly alike.
    """

    def before(one: int, other: int) -> float:
        gap = scores[other] - scores[one]
        if temperature > 0:
            return gap / temperature + (noise[other] - noise[one])
        return gap or noise[other] - noise[one]

    return sorted(range(len(scores)), key=cmp_to_key(before))  # type: ignore[arg-type]  (any number compares)


def _log_plackett_luce(scores: Sequence[float], temperature: float, order: Sequence[int]) -> list[float]:
    """Cumulated log chance of each place, given those above it.

    From the bottom up, the sum over what is left is kept relative to the best that is left: nothing overflows.
    """
    chosen = set(order)
    best, log_total = -math.inf, -math.inf
    for index in (index for index in range(len(scores)) if index not in chosen):
        best, log_total = _include(best, log_total, scores[index], temperature)
    steps: list[float] = []
    for index in reversed(order):
        best, log_total = _include(best, log_total, scores[index], temperature)
        steps.append(_scaled(scores[index] - best, temperature) - log_total)
    logs: list[float] = []
    total = 0.0
    for step in reversed(steps):
        total += step
        logs.append(min(total, 0.0))
    return logs


def _include(best: float, log_total: float, score: float, temperature: float) -> tuple[float, float]:
    """One more item below: the best score, and the log of the sum of exp((score - best) / temperature)."""
    if best == -math.inf:
        return score, 0.0
    top = max(best, score)
    kept = log_total + _scaled(best - top, temperature)
    return top, _log_sum(kept, _scaled(score - top, temperature))


def _scaled(gap: float, temperature: float) -> float:
    """A gap <= 0 over the temperature; at temperature 0 any gap is infinite."""
    if gap == 0:
        return 0.0
    return gap / temperature if temperature > 0 else -math.inf


def _log_uniform(count: int, places: int) -> list[float]:
    logs: list[float] = []
    total = 0.0
    for place in range(places):
        total -= math.log(count - place)
        logs.append(total)
    return logs


def _log_sum(one: float, other: float) -> float:
    """log(exp(one) + exp(other))."""
    high, low = max(one, other), min(one, other)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


def _tied_place(ascending: Sequence[float], score: float, place: int) -> float:
    """Greedy: items of equal score share their places evenly."""
    first_after = bisect_right(ascending, score)
    above, ties = len(ascending) - first_after, first_after - bisect_left(ascending, score)
    return 1 / ties if above <= place < above + ties else 0.0
