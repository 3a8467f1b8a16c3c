"""The typical ratio of two paired quantities (latency, tokens), with an interval that holds at every look.

A median is below c exactly when more than half of the ratios are, so "the median is at least c" is a claim about the
mean of a sign, and the confidence sequence of ``statistics.sequences`` answers it; all claims together give an interval
of the median (inverting tests as in Howard and Ramdas, "Sequential estimation of quantiles with applications to A/B
testing and best-arm identification", Bernoulli 28 (2022), with betting in place of their bound). What is kept is a
histogram in steps of 1/16 of an octave, with the limit on an edge, so the test against the limit is exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from flywheel.statistics.sequences import log_capital

PER_OCTAVE: Final = 16
REACH: Final = 6 * PER_OCTAVE
"""Cells on each side of the limit; what is beyond, and what never came, is in the outermost one."""
_NEAR: Final = 1e-9  # a ratio that is the limit but for rounding is not beyond it
_SIGNS: Final = np.array([-1.0, 1.0])


class Ratios:
    """Ratios of units, each the geometric mean of a unit's ratios."""

    def __init__(self, limit: float) -> None:
        """``limit``: the ratio that matters."""
        self.limit = limit
        self._cells = np.zeros(2 * REACH, np.int64)

    @property
    def n(self) -> int:
        """Units."""
        return int(self._cells.sum())

    def add(self, log_ratio: float) -> None:
        """Count one unit; infinite: the candidate never finished."""
        octaves = (log_ratio - math.log(self.limit)) / math.log(2)
        place = REACH + min(max(octaves * PER_OCTAVE, 1 - REACH), REACH)
        self._cells[math.ceil(place - _NEAR) - 1] += 1

    def median(self) -> float | None:
        """The typical ratio, to 1/16 of an octave; None of nothing."""
        if not self.n:
            return None
        return float(self._edge(int(np.searchsorted(np.cumsum(self._cells), (self.n + 1) // 2)) + 1 / 2))

    def interval(self, confidence: float) -> tuple[float, float] | None:
        """Both ends of the median's interval, at edges of cells; None of nothing."""
        if not self.n:
            return None
        below = np.cumsum(self._cells)[:-1]  # at the inner edges 1 ... 2 * REACH - 1
        counts = np.stack([self.n - below, below], axis=1).astype(np.float64)
        enough = math.log(2 / (1 - confidence))
        under = log_capital(_SIGNS, counts, np.zeros(len(counts))) >= enough  # most ratios are at most this edge
        over = log_capital(_SIGNS, counts[:, ::-1], np.zeros(len(counts))) >= enough
        low = float(self._edge(int(np.flatnonzero(over).max()) + 1)) if over.any() else 0.0
        high = float(self._edge(int(np.flatnonzero(under).min()) + 1)) if under.any() else math.inf
        return low, high

    def above(self, alpha: float) -> bool:
        """Whether "the median is at most the limit" is refuted at level ``alpha``, at whatever look."""
        counts = np.array([self._cells[:REACH].sum(), self._cells[REACH:].sum()], np.float64)
        return self.n > 0 and bool(log_capital(_SIGNS, counts, 0.0) >= math.log(1 / alpha))

    def dump(self) -> dict[str, Any]:
        """As JSON can hold it."""
        filled = np.flatnonzero(self._cells)
        return {"limit": self.limit, "cells": [[int(place), int(self._cells[place])] for place in filled]}

    @classmethod
    def load(cls, stored: Mapping[str, Any]) -> Ratios:
        """What ``dump`` gave."""
        made = cls(stored["limit"])
        for place, count in stored["cells"]:
            made._cells[place] = count
        return made

    def _edge(self, place: float) -> float:
        return self.limit * 2 ** ((place - REACH) / PER_OCTAVE)
