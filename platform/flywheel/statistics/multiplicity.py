"""Correction of p-values where any one of several suites may raise a claim.

Not for the gate: there *every* condition must hold, and the chance that all of them err is at most that of one
(intersection-union test; Berger, "Multiparameter hypothesis testing and acceptance sampling", Technometrics 24
(1982)). It is for reading many suites or slices at once: "this one became worse" is picked because it looks worst.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

import numpy as np
from scipy import stats  # pyright: ignore[reportMissingTypeStubs]

Name = TypeVar("Name")


def holm(p_values: Mapping[Name, float]) -> dict[Name, float]:
    """Adjusted p-values: claims at adjusted p <= a hold *all* with chance 1 - a, however the suites depend.

    Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6 (1979), section 3.

    Raises:
        ValueError: a value outside [0, 1].
    """
    ordered = sorted(_checked(p_values).items(), key=lambda item: item[1])
    factors = np.arange(len(ordered), 0, -1)
    adjusted = np.minimum(1, np.maximum.accumulate([p * k for (_, p), k in zip(ordered, factors, strict=True)]))
    found = {name: float(p) for (name, _), p in zip(ordered, adjusted, strict=True)}
    return {name: found[name] for name in p_values}


def benjamini_hochberg(p_values: Mapping[Name, float]) -> dict[Name, float]:
    """Adjusted p-values: of the claims at adjusted p <= a, at most a share a is false on average.

    Benjamini and Hochberg, "Controlling the false discovery rate", JRSS-B 57 (1995), section 3.1. For suites that
    are independent or positively dependent.

    Raises:
        ValueError: a value outside [0, 1].
    """
    if not _checked(p_values):
        return {}
    adjusted = cast("Any", stats).false_discovery_control(list(p_values.values()))
    return {name: float(p) for name, p in zip(p_values, adjusted, strict=True)}


def _checked(p_values: Mapping[Name, float]) -> Mapping[Name, float]:
    for name, p in p_values.items():
        if not 0 <= p <= 1:
            raise ValueError(f"the p-value of {name!r} is {p}; it must lie in [0, 1]")
    return p_values
