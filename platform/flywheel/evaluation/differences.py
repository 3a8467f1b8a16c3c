"""Paired differences of many models on many suites, all to one of them, with p-values that count how many there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from flywheel.evaluation.compare import SuiteComparison
from flywheel.statistics.multiplicity import holm


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
    """The same with Holm's p-values over all of them: at most one table in twenty has any false one below 0.05."""
    found = holm({(one.row, one.suite): one.comparison.p_value for one in differences})
    return [replace(one, p_adjusted=found[one.row, one.suite]) for one in differences]
