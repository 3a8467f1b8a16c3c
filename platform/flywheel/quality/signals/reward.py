"""What the reward model says; each row was scored by a fold that saw neither its people nor its text."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from flywheel.quality.signals.context import Context, Measured
from flywheel.quality.signals.declare import Declared


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


_GAMED = "length, confident tone and flattery raise a reward; it knows only what raters of the other folds said"

MARGIN = Declared(
    name="reward_margin", version="1", cost="model", scope="rows", group="reward", scale="log-odds, higher is better",
    inputs=("margin",), measures="reward of the correction minus that of the served answer",
    gamed=_GAMED, function=margin, decides=("low_reward_margin",),
)  # fmt: skip
PREFERENCE = Declared(
    name="preference", version="1", cost="model", scope="rows", group="reward", scale="[0, 1], higher is better",
    inputs=("preference",), measures="probability that the target is chosen among contrasting answers",
    gamed=_GAMED, function=preference, decides=("low_preference", "too_few_votes"),
)  # fmt: skip
WINS = Declared(
    name="reward_wins", version="1", cost="model", scope="rows", group="reward", scale="[0, 1], higher is better",
    inputs=("wins",), measures="share of contrasting answers that the target beats",
    gamed=_GAMED, function=wins,
)  # fmt: skip
PERCENTILE = Declared(
    name="liked_percentile", version="1", cost="model", scope="rows", group="reward",
    scale="[0, 1], higher is better", inputs=("origin", "advantage", "liked_advantages"),
    measures="rank of a liked answer's advantage over its contrasts among all liked answers",
    gamed=_GAMED, function=percentile, decides=("low_reward",),
)  # fmt: skip
