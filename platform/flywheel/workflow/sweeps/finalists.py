"""Which proposals are worth a fine-tune: the best by value, and others that keep clearly different rows. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from flywheel.workflow.sweeps.outcomes import Outcome, value
from flywheel.workflow.sweeps.pareto import front, spread
from flywheel.workflow.sweeps.rows import TuneRows


def best(outcomes: Sequence[Outcome], rows: TuneRows, wrong_row_cost: float) -> Outcome:
    """The highest value; of equals the first."""
    return max(outcomes, key=lambda one: round(value(one, rows, wrong_row_cost), 9))


def finalists(outcomes: Sequence[Outcome], rows: TuneRows, wrong_row_cost: float, count: int) -> list[Outcome]:
    """At most ``count``, no two of which keep the same rows.

    The winner of the first level, the filter the sweep started from, points of the Pareto front, then the next by
    value; the proxies run in this order, so that the likely best sets the bar for the others.
    """
    ranked = sorted(outcomes, key=lambda one: -round(value(one, rows, wrong_row_cost), 9))
    start = [one for one in outcomes if not one.params][:1]
    wanted = [*ranked[:1], *start, *spread(front(outcomes), max(0, count - 2)), *ranked]
    found: dict[tuple[int, int, float], Outcome] = {}
    for one in wanted:
        if len(found) < count and one.kept:
            found.setdefault(one.same_rows(), one)
    return list(found.values())
