"""Whom to compare with whom, and since when: read off the routing truth. Pure but for reading old routings."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from flywheel.config import GatewayConfig
from flywheel.rollout.live.asked import shadow_in
from flywheel.rollout.live.result import Source
from flywheel.rollout.routing import Routing
from flywheel.rollout.slots import TICKS, width


class Followed(NamedTuple):
    """A candidate in one role beside one live model."""

    source: Source
    candidate: str
    live: str

    @property
    def name(self) -> str:
        """As the state names it."""
        return "/".join(self)


class Period(NamedTuple):
    """Since when: the first routing of those, up to now, in which all of it held."""

    first: int
    began: datetime


def followed(routing: Routing | None, *, side_by_side: bool = False) -> list[Followed]:
    """Everybody that is compared now; with ``side_by_side``, before users who choose, too."""
    if routing is None:
        return []
    live = routing.live.version
    shown = [*routing.shadows, *routing.canaries] if side_by_side else []
    return [
        *(Followed("shadow", shadow.version, live) for shadow in routing.shadows),
        *(Followed("canary", canary.version, live) for canary in routing.canaries),
        *(Followed("side_by_side", one.version, live) for one in shown),
    ]


def period(who: Followed, now: Routing, read: Callable[[int], Routing]) -> Period:
    """Since when ``who`` is compared without a break; ``read`` gives a routing by number."""
    state = now
    while state.n > 1 and who in followed(before := read(state.n - 1), side_by_side=True):
        state = before
    return Period(state.n, state.ts)


def shares(routing: Routing, candidate: str) -> tuple[float, float]:
    """Shares of a canary and of the live model."""
    held = {canary.version: width(canary.slots) / TICKS for canary in routing.canaries}
    return held.get(candidate, 0.0), 1 - sum(held.values())


def budgeted(routing: Routing, candidate: str, config: GatewayConfig) -> bool:
    """Whether the gateway may drop requests for the shadow because its budget is used up."""
    shadow = shadow_in(routing, candidate)
    own = (shadow.requests_per_minute, shadow.tokens_per_minute) if shadow else ()
    return any(each is not None for each in (*own, config.shadow_requests_per_minute, config.shadow_tokens_per_minute))
