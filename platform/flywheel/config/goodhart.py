"""Settings of the Goodhart monitor."""

from __future__ import annotations

from pydantic import Field

from flywheel.config.base import Config


class GoodhartConfig(Config):
    """Do the signals that rows are chosen by still mean quality? Watched turn by turn (`flywheel goodhart`)."""

    held_out: str = Field(
        default="correction_distance",
        description="the signal that no filter, sweep or reward training may use, so that one witness is not optimised",
    )
    lower_is_better: list[str] = Field(
        default_factory=lambda: ["correction_distance"], description="signals of which more means worse"
    )
    alpha: float = Field(default=0.05, gt=0, lt=0.5, description="chance of any false alarm, over all turns together")
    min_people: int = Field(default=30, ge=10, description="people with an audit label that a turn's test needs")
    hold: bool = Field(
        default=True, description="with an alarm that nobody settled, `run --if-due` starts no further turn"
    )
