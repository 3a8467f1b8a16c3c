"""How many pairs does it take, and which gain can so many pairs show? For outcomes that are right or wrong.

Only pairs on which the models differ carry information, so the plan needs their share: known from an earlier
comparison, or assumed. The gate asks that the lower end of a two-sided interval lies above a limit: 0 for a gain, or
minus the margin for a guard suite. With a limit of 0 the fixed plan is that of Connor, "Sample size for testing
differences in proportions for the paired-sample design", Biometrics 43 (1987), after Miettinen, "The
matched pairs design in the case of all-or-none responses", Biometrics 24 (1968); with another limit that of Lu and
Bean, "On the sample size for one-sided equivalence of sensitivities based upon McNemar's test", Statistics in
Medicine 14 (1995).

For a sequence we take the gain at which its own bound crosses the limit after n pairs, and the normal chance to see at
least that gain at that look. Having looked before can only help, so the plan is on the safe side, by a tenth of the
pairs or so (``benchmarks/gate_simulation.py``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, cast

import numpy as np
from scipy import stats  # pyright: ignore[reportMissingTypeStubs]

from flywheel.statistics.sequences import log_capital
from flywheel.statistics.units import Floats

Design = Literal["fixed", "sequence"]
_MOST_PAIRS = 2**40
_DIFFERENCES = np.array([-1.0, 0.0, 1.0])
_HALVINGS = 40


def power(
    pairs: int,
    gain: float,
    discordant: float,
    *,
    limit: float = 0.0,
    confidence: float = 0.95,
    design: Design = "fixed",
) -> float:
    """Chance that the interval of the gain lies above ``limit`` after so many pairs.

    Args:
        pairs: how many; independent (count clusters, not rows, where a person has many).
        gain: true share of right answers of the candidate minus that of the live model.
        discordant: share of pairs on which one is right and the other wrong; at least the size of ``gain``.
        limit: what the interval must exceed, e.g. minus the margin of a guard suite.
        confidence: of the two-sided interval.
        design: one look at a fixed number of pairs, or the last look of a confidence sequence.

    Raises:
        ValueError: shares that are impossible together.
    """
    _check(gain, discordant, limit, confidence)
    if pairs < 1:
        return 0.0
    if design == "fixed":
        normal = cast("Any", stats).norm
        needed = limit + normal.ppf((1 + confidence) / 2) * math.sqrt((discordant - limit**2) / pairs)
    else:
        needed = _gain_to_see(pairs, discordant, limit, confidence)
    spread = math.sqrt((discordant - gain**2) / pairs)
    if spread == 0:
        return float(gain >= needed)
    return float(cast("Any", stats).norm.cdf((gain - needed) / spread))


def pairs_needed(
    gain: float,
    discordant: float,
    *,
    limit: float = 0.0,
    wanted: float = 0.8,
    confidence: float = 0.95,
    design: Design = "fixed",
) -> int:
    """Smallest number of pairs with which ``power`` is at least ``wanted``; arguments as there.

    Raises:
        ValueError: shares that are impossible together, or a gain that is not above the limit.
    """
    _check(gain, discordant, limit, confidence)
    if gain <= limit:
        raise ValueError(f"no number of pairs shows a gain of {gain:g} to be above {limit:g}")

    def enough(pairs: int) -> bool:
        return power(pairs, gain, discordant, limit=limit, confidence=confidence, design=design) >= wanted

    high = 1
    while not enough(high):
        high *= 2
        if high > _MOST_PAIRS:
            raise ValueError(f"more than {_MOST_PAIRS} pairs would be needed; plan for a larger gain")
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def detectable_gain(
    pairs: int,
    discordant: float,
    *,
    limit: float = 0.0,
    wanted: float = 0.8,
    confidence: float = 0.95,
    design: Design = "fixed",
) -> float | None:
    """Smallest true gain that ``pairs`` show with a chance of ``wanted``; arguments as for ``power``.

    None: not even a candidate that wins every discordant pair.

    Raises:
        ValueError: shares that are impossible together.
    """

    def enough(gain: float) -> bool:
        return power(pairs, gain, discordant, limit=limit, confidence=confidence, design=design) >= wanted

    return _smallest(enough, limit, discordant) if enough(discordant) else None


def _gain_to_see(pairs: int, discordant: float, limit: float, confidence: float) -> float:
    """The observed gain from which the sequence's lower end is above the limit; beyond all reach: infinite."""
    refuted = math.log(2 / (1 - confidence))

    def enough(gain: float) -> bool:
        shares = np.array([(discordant - gain) / 2, 1 - discordant, (discordant + gain) / 2])
        counts: Floats = pairs * shares
        return float(log_capital(_DIFFERENCES, counts, limit)) >= refuted

    return _smallest(enough, limit, discordant) if enough(discordant) else math.inf


def _smallest(enough: Callable[[float], bool], low: float, high: float) -> float:
    """By halving; ``enough`` holds at ``high`` and, once it holds, above."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _check(gain: float, discordant: float, limit: float, confidence: float) -> None:
    if not abs(gain) <= discordant <= 1 or discordant == 0:
        raise ValueError(
            f"a gain of {gain:g} needs a share of discordant pairs of {abs(gain):g} to 1, not {discordant:g}"
        )
    if not abs(limit) < discordant:
        raise ValueError(f"the limit {limit:g} must be smaller than the share of discordant pairs, {discordant:g}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence} must be inside (0, 1)")
