"""What is seen of a version now, and the one step that the rules may take. Pure values between the parts."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from flywheel.records import Reason, Record
from flywheel.rollout.enrolled import PausedBy
from flywheel.rollout.live.result import LiveVerdict


class Sight(Record):
    """What gateways' counters, engines and the comparison on live traffic say about one version now."""

    version: str
    reported: datetime | None = Field(default=None, description="when a gateway told its counters last")
    watched: datetime | None = Field(default=None, description="since when this controller sees this stage")
    requests: int = Field(default=0, description="drawn for it and finished, in this stage, as this controller saw")
    guards: list[Reason] = Field(
        default_factory=list[Reason], description="operational; passed False: breached, None: too little seen to say"
    )
    ready: bool | None = Field(default=None, description="whether its engine answers a gateway; None: nobody said")
    obstacle: str | None = Field(default=None, description="why its engine does not run, where that is known")
    quality: LiveVerdict | None = Field(default=None, description="the word that counts; None: not measured")
    comparisons: list[LiveVerdict] = Field(
        default_factory=list[LiveVerdict], description="of every place: shadow, canary, side by side; for people"
    )


Action = Literal["canary", "promote", "uncanary", "unshadow", "rollback", "pause", "resume"]


class Step(Record):
    """One transition. ``n``: the routing it follows from; it holds for no other."""

    action: Action
    version: str
    n: int
    share: float | None = Field(default=None, description="canary: of the users from now on")
    by: PausedBy | None = Field(default=None, description="pause: why")
    reason: str
    reasons: list[Reason] = Field(default_factory=list[Reason], description="the numbers it rests on")
