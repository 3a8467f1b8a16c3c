"""Is the traffic split as it should be, and what could the pairs that are missing change?

A sample-ratio mismatch is never news about the models: it says that requests were lost, repeated or routed in a way
that depends on the variant, and that no other number of the comparison can be trusted.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from scipy import special, stats  # pyright: ignore[reportMissingTypeStubs]

Id = TypeVar("Id", bound=Hashable)
_CONCENTRATION = 10_000.0


def ratio_p(counts: npt.ArrayLike, shares: npt.ArrayLike) -> float:
    """Chi-square p-value that requests were split by ``shares``; for one look, with some five requests a variant.

    Args:
        counts: requests a variant.
        shares: what each variant should have got; positive, any sum.

    Raises:
        ValueError: lengths differ, a negative count, or a share that is not positive.
    """
    seen, wanted = _split(counts, shares)
    if not seen.sum():
        return 1.0
    return float(cast("Any", stats).chisquare(seen, wanted * seen.sum()).pvalue)


def ratio_evidence(
    counts: npt.ArrayLike, shares: npt.ArrayLike, *, concentration: float = _CONCENTRATION
) -> npt.NDArray[np.float64]:
    """Bayes factor against a split by ``shares``, to be looked at after every request.

    If the split is right, the factor ever reaches 1 / a with a chance of at most a: raise the alarm at 1,000, and
    one correct rollout in a thousand gets a false one, however often somebody looks. Lindon and Malek, "Anytime-valid
    inference for multinomial count data", NeurIPS 2022, the sequential multinomial test: a Dirichlet prior around the
    split against the split itself.

    Args:
        counts: (..., k) requests a variant so far.
        shares: k positive numbers, any sum.
        concentration: of the prior, in requests; high values look for small deviations in much traffic.

    Returns:
        The factor, of shape (...).

    Raises:
        ValueError: as for ``ratio_p``.
    """
    seen, wanted = _split(counts, shares)
    prior = concentration * wanted
    gammaln = cast("Any", special).gammaln

    def log_beta(alpha: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return gammaln(alpha).sum(axis=-1) - gammaln(alpha.sum(axis=-1))

    return np.exp(np.minimum(log_beta(prior + seen) - log_beta(prior) - seen @ np.log(wanted), 700))


def _split(counts: npt.ArrayLike, shares: npt.ArrayLike) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    seen, wanted = np.asarray(counts, dtype=np.float64), np.asarray(shares, dtype=np.float64)
    if wanted.ndim != 1 or seen.shape[-1:] != wanted.shape:
        raise ValueError(f"counts of shape {seen.shape} for shares of shape {wanted.shape}")
    if not (seen >= 0).all() or not (wanted > 0).all():
        raise ValueError("counts must not be negative, and every share must be positive")
    return seen, wanted / wanted.sum()


@dataclass(frozen=True, slots=True)
class MissingPairs:
    """Requests that only one side answered, and the mean difference (candidate minus live) they could hide.

    ``difference`` is that of the pairs there are, None without one; ``worst`` and ``best`` are the means over all
    requests if every missing answer had gone against the candidate, or for it.
    """

    paired: int
    only_live: int
    only_candidate: int
    difference: float | None
    worst: float
    best: float


def missing_pairs(live: Mapping[Id, float], candidate: Mapping[Id, float]) -> MissingPairs:
    """Count what lacks a partner, and bound the difference without assuming why it does.

    Horowitz and Manski, "Nonparametric analysis of randomized experiments with missing covariate and outcome data",
    JASA 95 (2000): an outcome that is missing may be anything in its range, here [0, 1].

    Args:
        live: outcome in [0, 1] by request or case.
        candidate: the same.

    Raises:
        ValueError: nobody answered anything, or an outcome is outside [0, 1].
    """
    for outcome in (*live.values(), *candidate.values()):
        if not 0 <= outcome <= 1:
            raise ValueError(f"an outcome is {outcome}; it must lie in [0, 1]")
    asked = live.keys() | candidate.keys()
    if not asked:
        raise ValueError("no outcomes: neither model answered anything")
    paired = live.keys() & candidate.keys()
    gain = sum(candidate[key] - live[key] for key in paired)
    worst = gain + sum(candidate.get(key, 0) - live.get(key, 1) for key in asked - paired)
    best = gain + sum(candidate.get(key, 1) - live.get(key, 0) for key in asked - paired)
    return MissingPairs(
        paired=len(paired),
        only_live=len(live.keys() - candidate.keys()),
        only_candidate=len(candidate.keys() - live.keys()),
        difference=gain / len(paired) if paired else None,
        worst=worst / len(asked),
        best=best / len(asked),
    )
