"""Confidence sequences: intervals of a bounded mean that hold at every look at once.

    P(the true mean is inside the interval after n rows, for all n) >= confidence

So one may look after every row and stop whenever the answer is clear, for any reason. The idea is a bet: whoever
claims that the mean is at most m offers fair odds, and if betting against that claim multiplies the capital by
2 / alpha, the claim is given up (Ville's inequality; Waudby-Smith and Ramdas, "Estimating means of bounded random
variables by betting", JRSS-B 86 (2024), section 4: hedged capital, one bettor a side with half of alpha).

Our bettor does not follow one strategy that learns as it goes. It divides its capital over 24 constant shares from
0.0001 to 0.95 and keeps the mixture: Cover's universal portfolio, whose confidence sequences are studied by Orabona
and Jun, "Tight concentrations and confidence sequences from the regret of universal portfolio", IEEE Trans. Inf.
Theory 70 (2024), and Ryu and Bhatt, "On confidence sequences for bounded random processes via universal gambling
strategies", ibid. Weights proportional to the square root of the share (a Beta(1/2, 1) on a geometric grid) need the
fewest rows over what gates meet: differences of 1 to 15 points with 2 to 30 % of the pairs unequal
(``benchmarks/sequence_power.py`` has it beside the adaptive bets and the empirical Bernstein interval of the paper).
Two more things follow from constant shares:

- The capital depends on the *counts* of the values only, so order does not matter, a state is a histogram of fixed
  size, and a million pairs cost as much as a hundred.
- It falls as m grows, so the set of means that are not given up is an interval, found by halving.

Assumed: units arrive as a random sample, or at least each has the same mean given those before it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flywheel.statistics.units import Estimate, Floats, Labels, sums_and_sizes, vector

_SHARES = np.geomspace(1e-4, 0.95, 24)
"""Of the capital that is at stake; the rest is kept, so no single row can ruin the bettor."""
_LOG_WEIGHTS = 0.5 * np.log(_SHARES) - np.log(np.sqrt(_SHARES).sum())
_STEPS = 1024  # a unit of difference has so many levels; -1, 0 and 1 are levels, so binary outcomes are exact
_LEVELS = np.linspace(-1, 1, 2 * _STEPS + 1)
_HALVINGS = 32


class ConfidenceSequence:
    """Takes differences as they come, and gives the interval now.

    A difference between two of 2,049 levels counts as the lower one for the lower end and as the upper one for
    the upper end: the interval keeps its promise and is wider by less than 0.002 at each end.
    """

    def __init__(self, confidence: float = 0.95) -> None:
        """Start with no rows; ``confidence``: that the true mean is inside at every look, in (0, 1)."""
        if not 0 < confidence < 1:
            raise ValueError(f"confidence {confidence} must be inside (0, 1)")
        self._confidence = confidence
        self._sum = 0.0
        self._n = 0
        self._down = np.zeros(_LEVELS.size)
        self._up = np.zeros(_LEVELS.size)

    def add(self, differences: npt.ArrayLike) -> None:
        """One difference or many, candidate minus live, in [-1, 1]. Constant time and memory a difference.

        Raises:
            ValueError: outside [-1, 1], or NaN; nothing is counted then.
        """
        rows = vector(np.atleast_1d(np.asarray(differences, dtype=np.float64)))
        if rows.size and np.abs(rows).max() > 1:
            raise ValueError(f"differences must lie in [-1, 1], not in [{rows.min():g}, {rows.max():g}]")
        level = rows * _STEPS  # exact: a power of two
        np.add.at(self._down, np.floor(level).astype(np.intp) + _STEPS, 1)
        np.add.at(self._up, np.ceil(level).astype(np.intp) + _STEPS, 1)
        self._sum += float(rows.sum())
        self._n += rows.size

    def estimate(self) -> Estimate:
        """Mean and interval after all rows so far.

        Not intersected with earlier intervals: that would hold too, but then the answer would depend on how often
        somebody looked.

        Raises:
            ValueError: there are no rows yet.
        """
        if self._n == 0:
            raise ValueError("no rows: an interval needs outcomes")
        down, up = np.flatnonzero(self._down), np.flatnonzero(self._up)
        low = _lower(_LEVELS[down], self._down[down], self._confidence)
        high = -_lower(-_LEVELS[up], self._up[up], self._confidence)
        return Estimate(self._sum / self._n, float(low), float(high), self._n, self._n)


def confidence_sequence(
    differences: npt.ArrayLike, *, confidence: float = 0.95, clusters: Labels | None = None
) -> Estimate:
    """Mean of paired differences with an interval that may be looked at after every row.

    Args:
        differences: n numbers in [-1, 1], candidate minus live.
        confidence: that the true mean is inside at every look, in (0, 1).
        clusters: n labels, e.g. the subject or session of a row. The independent units are then the clusters, and
            what is estimated is *the mean over clusters of a cluster's mean difference*: somebody with a hundred
            requests weighs as much as somebody with one. The promise at every look is about clusters that do not
            change any more; while sessions still grow, the interval holds at each single look.

    Raises:
        ValueError: no rows, NaN, differences outside [-1, 1], or a wrong number of labels.
    """
    rows = vector(differences)
    sums, sizes = sums_and_sizes(rows, clusters)
    sequence = ConfidenceSequence(confidence)
    sequence.add(sums / sizes)
    found = sequence.estimate()
    return Estimate(found.mean, found.low, found.high, rows.size, found.clusters)


def bounds(values: Floats, counts: npt.ArrayLike, confidence: float) -> tuple[Floats, Floats]:
    """Both ends of the interval, of many sequences at once.

    Args:
        values: k values in [-1, 1] that occur.
        counts: (..., k) how often each did, e.g. one row a simulation.
        confidence: in (0, 1).

    Returns:
        Lower and upper ends, of shape (...).
    """
    seen = np.asarray(counts, dtype=np.float64)
    return _lower(values, seen, confidence), -_lower(-values, seen, confidence)


def log_capital(values: Floats, counts: Floats, mean: npt.ArrayLike) -> Floats:
    """Logarithm of what a unit of capital became by betting that the true mean is above ``mean``.

    The claim "at most ``mean``" is refuted at level a, at any look, once this reaches log(1 / a).

    Args:
        values: k values in [-1, 1].
        counts: (..., k) how often each occurred.
        mean: (...) in (-1, 1].
    """
    # Under the claim, a stock that pays (x + 1) / (m + 1) is worth 1 on average at most.
    pays = (values + 1) / (np.asarray(mean, dtype=np.float64)[..., None] + 1)
    growth = np.log1p(_SHARES[:, None] * (pays[..., None, :] - 1))
    log_each = np.einsum("...sk,...k->...s", growth, counts) + _LOG_WEIGHTS
    return np.asarray(np.logaddexp.reduce(log_each, axis=-1), dtype=np.float64)


def _lower(values: Floats, counts: Floats, confidence: float) -> Floats:
    """The largest mean that is refuted: every smaller one is, too."""
    enough = np.log(2 / (1 - confidence))
    low, high = np.full(counts.shape[:-1], -1.0), np.full(counts.shape[:-1], 1.0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        refuted = log_capital(values, counts, middle) >= enough
        low, high = np.where(refuted, middle, low), np.where(refuted, high, middle)
    return low
