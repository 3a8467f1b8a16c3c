"""McNemar's exact test: did two models differ on the same cases by more than chance?

McNemar, "Note on the sampling error of the difference between correlated proportions", Psychometrika 12
(1947); the exact form is a binomial test of the discordant pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from scipy import stats  # pyright: ignore[reportMissingTypeStubs]


@dataclass(frozen=True, slots=True)
class McNemar:
    """``fixed``: only ``a`` passed; ``broken``: only ``b`` passed; ``p``: two-sided, exact."""

    fixed: int
    broken: int
    p: float


def mcnemar(a: npt.ArrayLike, b: npt.ArrayLike) -> McNemar:
    """Compare paired passes of a candidate ``a`` and the live model ``b``.

    Raises:
        ValueError: the two differ in length.
    """
    left, right = np.asarray(a, dtype=np.bool_), np.asarray(b, dtype=np.bool_)
    if left.shape != right.shape:
        raise ValueError(f"paired outcomes differ in length: {left.size} and {right.size}")
    fixed, broken = int((left & ~right).sum()), int((right & ~left).sum())
    return McNemar(fixed, broken, exact_p(fixed, broken))


def exact_p(fixed: int, broken: int) -> float:
    """Two-sided p-value that ``fixed`` and ``broken`` differ by chance; 1.0 when no pair differs."""
    if fixed + broken == 0:
        return 1.0
    return float(cast("Any", stats).binomtest(fixed, fixed + broken).pvalue)
