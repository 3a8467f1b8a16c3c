"""Which proposals are worth a fine-tune: the best by value, and others that keep clearly different rows. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flywheel.workflow.sweeps.outcomes import Outcome, value
from flywheel.workflow.sweeps.pareto import FEWEST, front, spread
from flywheel.workflow.sweeps.rows import TuneRows

CHANCE = 0.1
"""Where rows that are kept are as often right by luck with more than this chance, their fewer number shows nothing."""


def best(outcomes: Sequence[Outcome], rows: TuneRows, wrong_row_cost: float) -> Outcome:
    """The highest value, of equals the first, of those that labels speak for; if they speak for none, the start.

    Where many rows are wrong the value of keeping next to nothing is high, and of many proposals some keep the few
    right ones among a handful by chance. So what keeps fewer labelled rows than the start must be right more often
    (Fisher's exact test, one-sided), and keep enough to say so.
    """
    start = next((one for one in outcomes if not one.params), None)
    ranked = sorted(outcomes, key=lambda one: -round(value(one, rows, wrong_row_cost), 9))
    if start is None:
        return ranked[0]
    return next((one for one in ranked if one is start or _better(one, start)), start)


def _better(one: Outcome, start: Outcome) -> bool:
    from scipy.stats import fisher_exact

    if one.kept >= start.kept:
        return True
    if one.kept < FEWEST:
        return False
    table = [[one.right_kept, one.kept - one.right_kept], [start.right_kept, start.kept - start.right_kept]]
    found: Any = fisher_exact(table, alternative="greater")  # scipy's stubs do not know what it returns
    return bool(found.pvalue <= CHANCE)


def finalists(outcomes: Sequence[Outcome], rows: TuneRows, wrong_row_cost: float, count: int) -> list[Outcome]:
    """At most ``count``, no two of which keep the same rows.

    The winner of the first level, the filter the sweep started from, points of the Pareto front, then the next by
    value; the proxies run in this order, so that the likely best sets the bar for the others.
    """
    ranked = sorted(outcomes, key=lambda one: -round(value(one, rows, wrong_row_cost), 9))
    start = [one for one in outcomes if not one.params][:1]
    wanted = [best(outcomes, rows, wrong_row_cost), *start, *spread(front(outcomes), max(0, count - 2)), *ranked]
    found: dict[tuple[int, int, float], Outcome] = {}
    for one in wanted:
        if len(found) < count and one.kept:
            found.setdefault(one.same_rows(), one)
    return list(found.values())
