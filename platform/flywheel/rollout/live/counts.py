"""How often each value of a unit occurred: all that a confidence sequence needs, in a fixed number of cells.

The capital of ``statistics.sequences`` depends on counts only. A value lies on a grid that is chosen so that what
usually occurs is exact; any other counts as its lower neighbour for the lower end and as its upper one for the upper
end, so that the interval keeps its promise and is wider by at most one step at each end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from flywheel.statistics.sequences import bounds, log_capital

Floats = npt.NDArray[np.float64]

STEPS: Final = 840
"""Levels of a unit of difference: divisible by 1 to 8, so means of up to eight wins, ties and losses are exact."""
FINE: Final = 84_000
"""For weighted outcomes, of which few different ones occur."""
_NEAR: Final = 1e-7  # what float arithmetic leaves of an exact level


class Counts:
    """Values in [-1, 1]."""

    def __init__(self, steps: int = STEPS) -> None:
        self.steps = steps
        self.n = 0
        self._sum = 0.0
        self._exact: dict[int, int] = {}
        self._between: dict[int, int] = {}

    def add(self, value: float) -> None:
        """Count one unit.

        Raises:
            ValueError: outside [-1, 1], or NaN; nothing is counted then.
        """
        if not -1 <= value <= 1:
            raise ValueError(f"a unit's difference must lie in [-1, 1], not be {value}")
        level = value * self.steps
        nearest = round(level)
        if abs(level - nearest) <= _NEAR * self.steps:
            self._exact[nearest] = self._exact.get(nearest, 0) + 1
        else:
            below = math.floor(level)
            self._between[below] = self._between.get(below, 0) + 1
        self.n += 1
        self._sum += value

    @property
    def mean(self) -> float | None:
        """None of nothing."""
        return self._sum / self.n if self.n else None

    def interval(self, confidence: float) -> tuple[float, float] | None:
        """Both ends, which hold at every look; None of nothing."""
        if not self.n:
            return None
        (down, counts), (up, same) = self._levels(0), self._levels(1)
        return float(bounds(down, counts, confidence)[0]), float(bounds(up, same, confidence)[1])

    def below(self, limit: float, alpha: float) -> bool:
        """Whether "the mean is at least ``limit``" is refuted at level ``alpha``, at whatever look."""
        up, counts = self._levels(1)
        return self.n > 0 and bool(log_capital(-up, counts, -limit) >= math.log(1 / alpha))

    def above(self, limit: float, alpha: float) -> bool:
        """Whether "the mean is at most ``limit``" is refuted at level ``alpha``, at whatever look."""
        down, counts = self._levels(0)
        return self.n > 0 and bool(log_capital(down, counts, limit) >= math.log(1 / alpha))

    def signs(self) -> tuple[int, int, int]:
        """Units below, at and above 0."""
        cells = [*self._exact.items(), *((level + 0.5, count) for level, count in self._between.items())]
        return (
            sum(count for level, count in cells if level < 0),
            sum(count for level, count in cells if level == 0),
            sum(count for level, count in cells if level > 0),
        )

    def dump(self) -> dict[str, Any]:
        """As JSON can hold it; ``load`` gives an equal one."""
        cells = {name: sorted(kept.items()) for name, kept in (("exact", self._exact), ("between", self._between))}
        return {"steps": self.steps, "n": self.n, "sum": self._sum, **cells}

    @classmethod
    def load(cls, stored: Mapping[str, Any]) -> Counts:
        """What ``dump`` gave."""
        made = cls(stored["steps"])
        made.n, made._sum = stored["n"], stored["sum"]
        made._exact, made._between = dict(stored["exact"]), dict(stored["between"])
        return made

    def _levels(self, up: int) -> tuple[Floats, Floats]:
        """Values and how often each; those between two levels at the lower (0) or the upper one (1)."""
        cells = dict(self._exact)
        for level, count in self._between.items():
            cells[level + up] = cells.get(level + up, 0) + count
        levels = np.fromiter(cells.keys(), np.float64, len(cells)) / self.steps
        return levels, np.fromiter(cells.values(), np.float64, len(cells))
