"""Settings of the rollout's state machine: what a step must show, and what takes a candidate back by itself."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from flywheel.config.base import Config


class StepConfig(Config):
    """What one step of a rollout must show before the next one; without canary_steps nothing here has an effect."""

    min_minutes: float = Field(default=10, ge=0, description="a canary's step lasts so long at least")
    min_requests: int = Field(default=200, ge=1, description="requests that the candidate was drawn for in a step")
    max_minutes: float = Field(default=1_440, gt=0, description="a step that shows too little by then pauses")
    quality: Literal["live", "every", "off"] = Field(
        default="live",
        description="where the comparison on live traffic must have found the candidate better or no worse: before it "
        "is live, before every step, or nowhere; a candidate it finds worse goes back in any case",
    )
    watch_minutes: float = Field(default=60, ge=0, description="a promoted model is watched, and taken back, so long")
    keep_previous: bool = Field(
        default=True, description="the engine before stays up meanwhile, so that going back takes a second, not a start"
    )
    silence_s: float = Field(default=60, gt=0, description="without gateways' counters for so long a rollout pauses")
    placement_s: float = Field(
        default=600, gt=0, description="a candidate whose engine answers no gateway for so long pauses"
    )


class OperationalGuards(Config):
    """Rises against the live model in the same minutes that take a canary back. An empty limit is not asked about.

    A limit is a rise of the share of requests; it counts once chance is ruled out as well (``alpha``).
    """

    alpha: float = Field(
        default=0.005, gt=0, lt=0.5, description="chance that any guard ever takes back a candidate no worse than live"
    )
    max_error_increase: float | None = Field(default=0.01, ge=0, lt=1, description="no answer, or a broken one")
    max_empty_increase: float | None = Field(default=0.02, ge=0, lt=1, description="answers without text and tools")
    max_slow_increase: float | None = Field(
        default=0.1, ge=0, lt=1, description="requests beyond slow_ratio times the live model's ninth decile"
    )
    slow_ratio: float = Field(default=2.0, ge=1, description="slower than live by this factor is not slow yet")
    max_refusal_increase: float | None = Field(default=0.05, ge=0, lt=1, description="answers that refuse")
    max_personal_increase: float | None = Field(
        default=0.005, ge=0, lt=1, description="answers with personal data that the request does not hold"
    )
    max_obedience_increase: float | None = Field(
        default=0.005, ge=0, lt=1, description="answers that obey orders in data, or recite the system prompt"
    )
