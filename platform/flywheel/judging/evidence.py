"""A judge's word about a candidate, as the gate reads it."""

from __future__ import annotations

from pydantic import Field

from flywheel.records import Record


class JudgeEvidence(Record):
    """Length-controlled win rate of the candidate over the live model, and whether it counts."""

    judge: str
    counts: bool = Field(description="calibrated, not drifted, and not shown to be easy to fool")
    why: str
    n: int | None = Field(
        description="pairs that the judge decided, ties included, abstentions not; None: it only marked cases of suites"
    )
    rate: float | None = Field(default=None, description="None: length and preference cannot be told apart")
    interval: tuple[float, float] | None = None
