"""Stochastic choice among scored candidates, with the exact chance of what was chosen. Pure, no I/O.

One family covers what is served: with probability ``epsilon`` a uniform choice, else a softmax over
``score / temperature``; at temperature 0 the softmax is its limit, the best score with ties split evenly.
Off-policy evaluation (Horvitz and Thompson 1952; Dudik, Langford and Li 2011) needs that chance to be the true
one and to be positive for all that another policy might choose, which any ``epsilon`` > 0 gives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LARGEST = 1e300
"""Scores beyond it are as good as infinite: differences of two would be."""


@dataclass(frozen=True)
class Policy:
    """How candidates are chosen by score.

    Attributes:
        temperature: of the softmax, in units of the score; 0 is greedy.
        epsilon: share of choices that ignore the scores.
    """

    temperature: float = 1.0
    epsilon: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no policy.

        Raises:
            ValueError: a number is out of range.
        """
        if not (math.isfinite(self.temperature) and self.temperature >= 0 and 0 <= self.epsilon <= 1):
            raise ValueError(f"no policy has temperature {self.temperature} and epsilon {self.epsilon}")


GREEDY = Policy(temperature=0.0)
UNIFORM = Policy(epsilon=1.0)


def unusable(scores: Sequence[float], count: int) -> str | None:
    """Why nothing can be chosen by these scores; None: it can.

    Returns:
        ``wrong_count``: not one score for each of ``count`` candidates; ``not_finite``: one is NaN or infinite.
    """
    if len(scores) != count:
        return "wrong_count"
    return None if all(abs(score) <= LARGEST for score in scores) else "not_finite"  # NaN compares false


def softmax(scores: Sequence[float], temperature: float) -> list[float]:
    """Probabilities proportional to exp(score / temperature); at 0 the best ones share.

    Scores must be finite (``unusable``). Only differences to the best are divided and exponentiated: nothing overflows.
    """
    best = max(scores)
    if temperature == 0:
        ties = sum(score == best for score in scores)
        return [1 / ties if score == best else 0.0 for score in scores]
    weights = [math.exp((score - best) / temperature) for score in scores]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def probabilities(scores: Sequence[float], policy: Policy) -> list[float]:
    """The chance of each candidate under ``policy``. Scores must be finite and at least one."""
    floor = policy.epsilon / len(scores)
    return [floor + (1 - policy.epsilon) * share for share in softmax(scores, policy.temperature)]


def pick(chances: Sequence[float], uniform: float) -> int:
    """The candidate that a uniform number in [0, 1) falls on. One of chance 0 is never picked."""
    passed = 0.0
    last = 0
    for index, chance in enumerate(chances):
        if chance <= 0:
            continue
        last = index
        passed += chance
        if uniform < passed:
            return index
    return last  # the sum stayed below the number by rounding
