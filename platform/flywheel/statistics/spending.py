"""Levels for tests that are repeated for as long as somebody looks, of which any one may raise an alarm."""

from __future__ import annotations

import math


def level(alpha: float, look: int) -> float:
    """The level of the k-th look, counted from 1: alpha * 6 / (pi * k)^2.

    All levels sum to alpha (the Basel series), so by the union bound the chance of any false alarm is at most alpha,
    however many looks there will be and however they depend on each other. Alpha spending: Lan and DeMets, "Discrete
    sequential boundaries for clinical trials", Biometrika 70 (1983), without a last look fixed beforehand.

    Raises:
        ValueError: there is no such look.
    """
    if look < 1:
        raise ValueError(f"looks are counted from 1, not {look}")
    return alpha * 6 / (math.pi * look) ** 2
