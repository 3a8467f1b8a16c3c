"""Paired differences of many models on many suites, all to one of them, with p-values that count how many there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from flywheel.evaluation.compare import SuiteComparison


@dataclass(frozen=True)
class Difference:
    """One row of a sweep against its first row, on one suite. ``p_adjusted``: Holm's, over the whole table."""

    row: int
    suite: str
    comparison: SuiteComparison
    p_adjusted: float = 1.0

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``: numbers only, no ids of cases."""
        one = self.comparison.as_dict()
        return {
            "row": self.row,
            "suite": self.suite,
            "n": one["n"],
            "unpaired": one["unpaired"],
            "difference": one["gain"]["mean"],
            "interval": one["gain"]["interval"],
            "fixed": len(one["fixed"]),
            "newly_broken": len(one["newly_broken"]),
            "p_value": one["p_value"],
            "p_adjusted": self.p_adjusted,
        }


def adjusted(differences: Sequence[Difference]) -> list[Difference]:
    """The same with Holm's step-down p-values, so that at most one table in twenty has any false p below 0.05.

    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979).
    """
    order = sorted(range(len(differences)), key=lambda place: differences[place].comparison.p_value)
    highest, found = 0.0, dict[int, float]()
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * differences[place].comparison.p_value))
        found[place] = highest
    return [replace(one, p_adjusted=found[place]) for place, one in enumerate(differences)]
