"""The signals: one file each, and the dict below is the registry.

A signal is a pure function of one row and a ``Context`` that holds what is known about all rows. None means
not measured: such a row neither passes nor fails a threshold on it.
"""

from __future__ import annotations

from collections.abc import Callable

from flywheel.quality.signals import agreement, distance, engagement, explicit, form, reward, trust
from flywheel.quality.signals.context import Context, Measured

SignalFunction = Callable[[Measured, Context], float | None]

SIGNALS: dict[str, SignalFunction] = {
    "explicit": explicit.signal,
    "engagement": engagement.signal,
    "correction_distance": distance.signal,
    "format": form.signal,
    "agreement": agreement.signal,
    "reward_margin": reward.margin,
    "preference": reward.preference,
    "reward_wins": reward.wins,
    "liked_percentile": reward.percentile,
    "rater_trust": trust.signal,
    "rater_reliability": trust.reliability,
}


def measure(row: Measured, context: Context) -> dict[str, float | None]:
    """All signals of one row, rounded to six digits so that a rerun stores the same bytes."""
    values = {name: function(row, context) for name, function in SIGNALS.items()}
    return {name: None if value is None else round(float(value), 6) for name, value in values.items()}
