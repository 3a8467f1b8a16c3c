"""What the reward model says; each row was scored by a fold that saw neither its people nor its text."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from flywheel.quality.signals.context import Context, Measured


def margin(measured: Measured, context: Context) -> float | None:  # noqa: ARG001  (one signature for all signals)
    """Correction: reward(correction) - reward(served answer), in log-odds. None for liked answers."""
    return measured.margin


def preference(measured: Measured, context: Context) -> float | None:  # noqa: ARG001
    """Probability that the target is chosen among its contrasts (Luce's rule), in [0, 1]."""
    return measured.preference


def percentile(measured: Measured, context: Context) -> float | None:
    """Liked: share of liked rows with a smaller advantage over their contrasts, ties half. None for corrections.

    Rewards of different prompts share no zero, so the advantage over contrasts is ranked, not the reward.
    """
    if measured.row.origin != "liked" or measured.advantage is None or not context.liked_advantages:
        return None
    ranked = context.liked_advantages
    below, upto = bisect_left(ranked, measured.advantage), bisect_right(ranked, measured.advantage)
    return (below + upto) / 2 / len(ranked)


def wins(measured: Measured, context: Context) -> float | None:  # noqa: ARG001
    """Share of contrasts the target beats. Its mean over all rows tells whether the model knows anything."""
    return measured.wins
