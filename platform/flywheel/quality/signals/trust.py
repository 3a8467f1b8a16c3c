"""How far a rater's *other* rows are supported by the reward model and by other people.

The row's own support is left out, so that a rater's one odd answer is judged by their record and not by
itself; few rows are smoothed towards the mean of all raters.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from flywheel.quality.signals.context import Context, Measured, RaterSums

PRIOR_ROWS = 4.0
"""Weight of the population's mean, in rows."""


def signal(measured: Measured, context: Context) -> float | None:
    """Smoothed mean support of the rater's other rows, in [0, 1]; None where nothing supports or refutes."""
    if not context.raters:
        return None
    sums = context.raters.get(measured.row.rater, RaterSums(0.0, 0))
    own = support(measured)
    total = sums.support - (own if own is not None else 0.0)
    count = sums.rows - (1 if own is not None else 0)
    return (total + PRIOR_ROWS * context.mean_support) / (count + PRIOR_ROWS)


def reliability(measured: Measured, context: Context) -> float | None:  # noqa: ARG001  (one signature for all signals)
    """How often the rater is right, in [0, 1], by Dawid-Skene over all votes (``quality.trust.agreement``).

    None where nobody else said anything about what this rater voted on. Gamed by agreeing with everybody on popular
    questions: a good record says little about a vote that rests on the rater's word alone.
    """
    return measured.row.rater_reliability


def support(measured: Measured) -> float | None:
    """Mean of preference and agreement, whichever were measured."""
    values = [value for value in (measured.preference, measured.agreement) if value is not None]
    return sum(values) / len(values) if values else None


def learn(rows: Sequence[Measured]) -> tuple[dict[str, RaterSums], float]:
    """Sums by rater, and the mean over raters (not rows: volume does not move it)."""
    values: dict[str, list[float]] = defaultdict(list)
    for measured in rows:
        own = support(measured)
        if own is not None:
            values[measured.row.rater].append(own)
    raters = {rater: RaterSums(sum(own), len(own)) for rater, own in sorted(values.items())}
    means = [sums.support / sums.rows for sums in raters.values()]
    return raters, sum(means) / len(means) if means else 0.5
