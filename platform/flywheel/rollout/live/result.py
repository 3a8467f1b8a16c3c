"""What live traffic says about one candidate, as the rollout, the gate and people read it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from flywheel.records import Reason, Record

Source = Literal["shadow", "canary", "side_by_side"]
State = Literal["better", "no_worse", "worse", "undecided"]


class LiveVerdict(Record):
    """One candidate against the live model. Produced by ``Watch``, consumed by the rollout and the gate."""

    flow: str
    candidate: str
    live: str
    source: Source
    pairs: int = Field(description="rows: pairs of a shadow, answers of both arms of a canary, choices")
    units: int = Field(description="independent units: sessions, or users of a canary")
    missing: int = Field(description="mirrored or assigned, and brought nothing: counted against the candidate")
    mean: float | None = Field(description="mean difference in [-1, 1], candidate minus live, over units")
    low: float | None = Field(description="lower end of its interval, which holds at every look")
    high: float | None
    planned_units: int = Field(description="what the plan said would be enough to decide")
    state: State
    reasons: list[Reason] = Field(description="quality, missing, latency, cost, each slice; passed None: not measured")
