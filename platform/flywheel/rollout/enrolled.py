"""That the state machine moves a candidate on, as the routing object says it. Pure.

It is part of the routing object and no list beside it, because then a pause and a step, which may come at the same
moment, compete for one number: of the two only one happens, and whoever lost decides again on what is in force.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from flywheel.records import Record

PausedBy = Literal["person", "inconclusive", "missing", "capacity"]
Turned = Literal["rollout", "pause", "resume"]


class Enrolled(Record):
    """A candidate in a rollout. Where it stands is its role in the routing."""

    version: str = Field(min_length=1)
    paused: PausedBy | None = Field(
        default=None,
        description="why it is not moved on: a person said so; its step ended without a clear answer; no gateway told "
        "its counters; its engine found no place. The last two end by themselves",
    )


def turned(before: Sequence[Enrolled], after: Sequence[Enrolled]) -> tuple[Turned, str | None]:
    """What a change of the rollouts alone was, and of whom: one began, one paused, one goes on."""
    old = {one.version: one for one in before}
    for one in after:
        if one.version not in old:
            return "rollout", one.version
        if one != old[one.version]:
            return ("resume" if one.paused is None else "pause"), one.version
    gone = [version for version in old if version not in {one.version for one in after}]
    return "pause", gone[0] if gone else None
