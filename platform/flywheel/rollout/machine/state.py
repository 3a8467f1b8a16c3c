"""Where the candidates of a flow stand: read from routing objects and decisions, never stored beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Literal

from pydantic import Field

from flywheel.records import Decision, Record
from flywheel.rollout import history
from flywheel.rollout.enrolled import PausedBy
from flywheel.rollout.routing import Routing

Stage = Literal[
    "registered", "evaluated", "shadow", "canary", "live", "retired", "rejected", "rolled_back"
]  # fmt: skip

Past = Callable[[int], Routing]
"""A routing object by its number; they never change, so it may remember them."""


class Candidate(Record):
    """A shadow or canary as the machine sees it."""

    version: str
    stage: Literal["shadow", "canary"]
    share: float = Field(description="of the users; 0 in the shadow")
    since: datetime = Field(description="when this stage with this share began, or went on after a pause")
    enrolled: bool = Field(description="the machine moves it on; others it only guards")
    paused: PausedBy | None = None
    passed: bool = Field(description="the gate's verdict to promote it over this live model holds")


class Live(Record):
    """The live model as the machine sees it."""

    version: str
    since: datetime
    previous: str | None = Field(description="what a rollback makes live")
    promoted: bool = Field(description="it came by a promotion; else it was the first, or a rollback's")


class RolloutState(Record):
    """All that the rules know of the routing and the decisions."""

    flow: str
    n: int = Field(description="number of the routing object; a step holds for this one only")
    live: Live
    candidates: list[Candidate]


def state_of(now: Routing, rows: Iterable[Decision], past: Past) -> RolloutState:
    """The state behind a routing object.

    Args:
        now: what is in force.
        rows: decisions of the flow, oldest first.
        past: earlier routing objects.
    """
    decided = list(rows)
    rolling = {one.version: one for one in now.rollouts}
    roles = [(canary.version, canary.share) for canary in now.canaries] + [(one.version, 0.0) for one in now.shadows]
    return RolloutState(
        flow=now.flow,
        n=now.n,
        live=_live(now, past),
        candidates=[
            Candidate(
                version=version,
                stage="canary" if share else "shadow",
                share=share,
                since=_began(now, past, lambda state, version=version: _place(state, version)),
                enrolled=version in rolling,
                paused=rolling[version].paused if version in rolling else None,
                passed=history.passed(decided, candidate=version, live=now.live.version) is not None,
            )
            for version, share in roles
        ],
    )


def stage_of(version: str, now: Routing | None, rows: Iterable[Decision]) -> Stage:
    """Where any registered version stands, by the routing in force and by what was decided about it last."""
    if now is not None and version == now.live.version:
        return "live"
    if now is not None and any(version == one.version for one in now.canaries):
        return "canary"
    if now is not None and any(version == one.version for one in now.shadows):
        return "shadow"
    stage: Stage = "registered"
    live: str | None = None
    for row in rows:
        stage = _after(row, version, live, stage)
        live = row.live if row.routing_n is not None and row.action != "gate" else live
    return stage


def _after(row: Decision, version: str, live: str | None, stage: Stage) -> Stage:
    """The stage of a version without a role, after one more decision. ``live``: the live model before it."""
    if row.candidate == version:
        if row.action in {"rollback", "uncanary"}:
            return "rolled_back"
        if row.action == "gate":
            return "rejected" if row.verdict == "reject" else "evaluated"
        if row.action == "unshadow":
            return "rejected" if stage != "rolled_back" else stage
    replaced = row.action == "promote" and version == live and row.candidate != version
    return "retired" if replaced else stage


def _live(now: Routing, past: Past) -> Live:
    n = now.n
    while n > 1 and past(n - 1).live.version == now.live.version:
        n -= 1
    first = now if n == now.n else past(n)
    promoted = n > 1 and not (first.decision_id or "").startswith("rollback-")
    previous = now.previous.version if now.previous else None
    return Live(version=now.live.version, since=first.ts, previous=previous, promoted=promoted)


def _began(now: Routing, past: Past, place: Callable[[Routing], object]) -> datetime:
    """Time of the first routing object in a row with the same ``place``."""
    wanted, since = place(now), now.ts
    for n in range(now.n - 1, 0, -1):
        before = past(n)
        if place(before) != wanted:
            break
        since = before.ts
    return since


def _place(state: Routing, version: str) -> object:
    """Role, share, pause, and whom it is compared with."""
    share = next((one.share for one in state.canaries if one.version == version), None)
    shadow = any(one.version == version for one in state.shadows)
    rollout = next((one for one in state.rollouts if one.version == version), None)
    return state.live.version, share, shadow, rollout
