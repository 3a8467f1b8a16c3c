"""Has one arm begun to fail more often than the other? Sequential, valid at every look, for an onset at any time. Pure.

**The arm of a failure.** While canary and live fail alike, whatever the rate is and however it changes, a failure is
the canary's with the canary's share of the requests it could have happened to. So only *whose* failures they are is
tested (Lindon and Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022, use the next event's arm
in the same way): an outage of both arms is no evidence at all, and three failures among ten requests are little. In a
batch of m requests, s of them the canary's share, with h failures of which k are the canary's, the likelihood ratio of
"r times as often" against "alike" is

    r^k / (s r + 1 - s)^h.

Given h, k is hypergeometric under "alike"; the ratio is convex in k and has mean one under the binomial, which is more
spread out, so its mean is at most one (Hoeffding, "Probability inequalities for sums of bounded random variables",
JASA 58 (1963), theorem 4). Shares are those of the batch as they were, so neither shares that change, nor a breaker
that keeps requests away, nor one user with half of the traffic is mistaken for a failure.

**Against a rate that was.** After a promotion there is no second arm. The rate is tested against the one before:
(p / p0)^k ((1 - p) / (1 - p0))^(m - k) has mean at most one while the rate is p0 or less.

**Any onset.** A model that ran well for a day must not have a day's credit. The evidence is a mixture over the batch in
which the failure began, with weights that sum to one (Shin, Ramdas and Rinaldo, "E-detectors", 2023, with a prior over
the change point, which keeps it an e-process): M <- (M + w_j) L. By Ville's inequality the chance that it ever reaches
1 / alpha while nothing is wrong is at most alpha.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

RATIOS: Final = np.array([1.5, 3.0, 10.0, 100.0])
"""How many times as often; the evidence is the mean over them."""
_TOTAL: Final = 2.1097
"""Sum of 1 / ((j + 1) ln(j + 1)^2) over j >= 1."""
_CLEARLY: Final = np.array([1.25, 1.5, 2.0, 4.0])
"""Odds against the rate before, times this."""


class Onset:
    """Evidence that something began, at whatever batch."""

    def __init__(self, alternatives: int) -> None:
        self._log = np.full(alternatives, -np.inf)
        self._batches = 0

    def see(self, log_ratios: Floats) -> None:
        """One more batch: the logarithm of each alternative's likelihood ratio."""
        self._batches += 1
        weight = -np.log(_TOTAL * (self._batches + 1)) - 2 * np.log(np.log(self._batches + 1))
        self._log = np.logaddexp(self._log, weight) + log_ratios

    @property
    def log_evidence(self) -> float:
        """Logarithm of the e-process: mean over the alternatives."""
        return float(np.logaddexp.reduce(self._log) - np.log(self._log.size))


class ArmOnset(Onset):
    """Does the canary fail more often than the live model in the same minutes?"""

    def __init__(self) -> None:
        super().__init__(RATIOS.size)

    def batch(self, canary: tuple[int, int], live: tuple[int, int]) -> None:
        """(requests, failures) of both arms. Without a failure, or with one arm only, a batch says nothing."""
        requests, hits = canary[0] + live[0], canary[1] + live[1]
        if not hits or not canary[0] or not live[0]:
            return
        share = canary[0] / requests
        self.see(canary[1] * np.log(RATIOS) - hits * np.log(share * RATIOS + 1 - share))


class RateOnset(Onset):
    """Is a rate above the one that was?"""

    def __init__(self, before: float) -> None:
        """``before``: the highest rate that is all right, in (0, 1)."""
        super().__init__(_CLEARLY.size)
        odds = before / (1 - before) * _CLEARLY
        rates = odds / (1 + odds)
        self._hit, self._miss = np.log(rates / before), np.log((1 - rates) / (1 - before))

    def batch(self, requests: int, hits: int) -> None:
        """Some requests more."""
        if requests:
            self.see(hits * self._hit + (requests - hits) * self._miss)
