"""The history of a flow's rollouts, from routing objects: who answered which share of the users, when and why."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from flywheel.lake.tables import Lake
from flywheel.records import Record
from flywheel.rollout import routing as truth
from flywheel.rollout.history import ROLLOUT
from flywheel.rollout.machine import take
from flywheel.rollout.promotion import Action, row_of
from flywheel.rollout.routing import Routing

MOST = 500
"""Newest states that are looked at."""


class Moment(Record):
    """One state of the routing and what led to it."""

    n: int
    ts: datetime
    action: Action
    version: str | None = Field(description="whom it was about")
    live: str
    shares: dict[str, float] = Field(description="of the users, by version; they sum to one")
    shadows: list[str]
    paused: dict[str, str] = Field(description="rollouts that are held, and why")
    actor: str
    automatic: bool
    reason: str
    numbers: list[str] = Field(default_factory=list[str], description="what an automatic step rested on")


def story(lake: Lake, flow: str, *, about: str | None = None, most: int = MOST) -> list[Moment]:
    """Moments, oldest first.

    Args:
        lake: the lake.
        flow: whose.
        about: only from this version's first to its last role beside being live, and what was after.
        most: newest states at the most.
    """
    now = truth.current(lake.store, flow)
    if now is None:
        return []
    first = max(1, now.n - most + 1)
    states = [truth.read(lake.store, flow, n) for n in range(first, now.n)] + [now]
    before = truth.read(lake.store, flow, first - 1) if first > 1 else None
    told = list[Moment]()
    for state in states:
        told.append(_moment(lake, before, state))
        before = state
    return told if about is None else _of(told, about)


def _moment(lake: Lake, before: Routing | None, state: Routing) -> Moment:
    row = row_of(before, state)
    held = {canary.version: canary.share for canary in state.canaries}
    known = take.grounds(lake, state.flow, row.decision_id) if state.actor == ROLLOUT else None
    return Moment(
        n=state.n,
        ts=state.ts,
        action=_action(row.action),
        version=row.candidate,
        live=state.live.version,
        shares={state.live.version: 1 - sum(held.values()), **held},
        shadows=[shadow.version for shadow in state.shadows],
        paused={one.version: one.paused for one in state.rollouts if one.paused},
        actor=state.actor,
        automatic=state.actor == ROLLOUT,
        reason=state.reason,
        numbers=[reason.text for reason in known.reasons] if known else [],
    )


def _action(action: str) -> Action:
    return action  # pyright: ignore[reportReturnType]  (a routing's decision has one of these)


def _of(told: list[Moment], version: str) -> list[Moment]:
    """From the moment before it came, so that the picture begins with who was there."""
    places = [place for place, moment in enumerate(told) if version in {*moment.shares, *moment.shadows}]
    return told[max(0, places[0] - 1) : places[-1] + 2] if places else []
