"""Which of a filter's settings are searched, and what a found filter is called."""

from __future__ import annotations

from typing import Any

from flywheel.config import FilterConfig
from flywheel.config.loader import config_hash

FLOATS: dict[str, tuple[float, float]] = {
    "min_reward_margin": (-2.0, 4.0),
    "min_preference": (0.0, 0.9),
    "min_agreement": (0.0, 0.9),
    "min_liked_reward": (0.0, 0.5),
    "min_rater_trust": (0.0, 0.7),
}
INTS: dict[str, tuple[int, int]] = {"min_votes": (0, 4)}


def space() -> dict[str, Any]:
    """Optuna's distributions by name of the setting."""
    from optuna.distributions import FloatDistribution, IntDistribution

    floats = {key: FloatDistribution(*bounds) for key, bounds in FLOATS.items()}
    return {**floats, **{key: IntDistribution(*bounds) for key, bounds in INTS.items()}}


def name(config: FilterConfig) -> FilterConfig:
    """The same thresholds, rounded, under a version that is their content hash."""
    values = config.model_dump().items()
    rounded = {key: round(value, 4) if isinstance(value, float) else value for key, value in values}
    plain = FilterConfig.model_validate({**rounded, "version": "default"})
    return plain.model_copy(update={"version": f"sweep-{config_hash(plain)[:12]}"})
