"""Fisher's exact test of two proportions: is one rate higher than another by more than chance?

Fisher, "Statistical Methods for Research Workers" (1934), section 21.02. Exact at any size, and on the cautious
side: the chance of a false alarm is at most the level that is asked for.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

from scipy import stats  # pyright: ignore[reportMissingTypeStubs]


class Count(NamedTuple):
    """``hits`` of ``n``."""

    hits: int
    n: int

    @property
    def rate(self) -> float:
        """Share of hits; 0.0 of nothing."""
        return self.hits / self.n if self.n else 0.0


def p_higher(later: Count, earlier: Count) -> float:
    """One-sided p-value that the rate of ``later`` is not above that of ``earlier``; 1.0 where either is empty.

    Raises:
        ValueError: a count has more hits than rows, or negative ones.
    """
    for count in (later, earlier):
        if not 0 <= count.hits <= count.n:
            raise ValueError(f"{count.hits} hits of {count.n} rows")
    if not later.n or not earlier.n:
        return 1.0
    table = [[count.hits, count.n - count.hits] for count in (later, earlier)]
    return float(cast("Any", stats).fisher_exact(table, alternative="greater").pvalue)


def wilson(count: Count, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a rate; [0, 1] of nothing.

    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
    """
    if not count.n:
        return 0.0, 1.0
    found = cast("Any", stats).binomtest(count.hits, count.n).proportion_ci(confidence, method="wilson")
    return float(found.low), float(found.high)
