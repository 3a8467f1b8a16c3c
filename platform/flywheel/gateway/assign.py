"""Who answers one request, decided once, and what its row says of that. Pure.

Eligible are the live model and every canary that takes this caller and can answer now; so readiness is known before
the draw, and the propensities are those of this draw: a canary's own share, and for the live model all the rest. Places
of a canary that cannot answer are the live model's meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from flywheel.gateway.asked import Asked
from flywheel.records import AssignedHow, Fallback, TrafficKind
from flywheel.rollout.assignment import key_of
from flywheel.rollout.routing import Canary, Routing, Variant
from flywheel.rollout.slots import TICKS, width

NOT_READY = "not_ready"


@dataclass(frozen=True)
class Assignment:
    """Who answers one request, decided once, with the chance that it was this variant (logged for off-policy use)."""

    routing: Routing
    tenant: str
    variant: Variant
    eligible: list[str]
    propensity: float
    key_hash: str | None
    kind: TrafficKind
    how: AssignedHow = "only"
    fallback: Fallback | None = None
    decided: float = field(default_factory=time.perf_counter, compare=False)

    @property
    def may_fall_back(self) -> bool:
        """Whether the live model can be asked when this one gives no answer."""
        return self.variant.version != self.routing.live.version

    def fallen_back(self, reason: str) -> Assignment:
        """The same request answered by the live model: no draw chose that, so its chance is 1, and it says why."""
        drawn = Fallback(
            assigned=self.variant.version, eligible=self.eligible, propensity=self.propensity, reason=reason
        )
        live = self.routing.live
        return replace(
            self, variant=live, eligible=[live.version], propensity=1.0, kind="live", how="fallback", fallback=drawn
        )


def assign(routing: Routing, asked: Asked, *, secret: bytes | None, usable: Callable[[str], bool]) -> Assignment:
    """The draw, or what the request named.

    ``model=`` with the version of a canary or of the live model asks for exactly that one; with the name of a shadow
    or of an earlier live model, for the live one: clients that were given a version keep it. Such requests are pinned,
    and no part of the randomised comparison. Without ``secret`` nobody is drawn to a canary.
    """
    if not routing.canaries:
        how: AssignedHow = "only" if asked.model in {"", routing.flow} else "pinned"
        return _single(routing, asked.tenant, routing.live, how, None)
    key = key_of(secret, routing, asked.tenant, asked.user) if secret else None
    name = key.hash if key else None
    if asked.model not in {"", routing.flow}:
        return _pinned(routing, asked, usable, name)
    eligible = [canary for canary in routing.canaries if key and canary.takes(asked.tenant) and usable(canary.version)]
    if key is None or not eligible:
        return _single(routing, asked.tenant, routing.live, "only", name)
    versions = [routing.live.version, *(canary.version for canary in eligible)]
    chosen = next((canary for canary in eligible if canary.holds(key.place)), None)
    if chosen is not None:
        chance = width(chosen.slots) / TICKS
        return Assignment(routing, asked.tenant, chosen, versions, chance, name, "canary", "random")
    rest = TICKS - sum(width(canary.slots) for canary in eligible)
    return Assignment(routing, asked.tenant, routing.live, versions, rest / TICKS, name, "live", "random")


def beside(routing: Routing, tenant: str) -> Assignment:
    """The live model's part of two answers side by side: a request in no arm of any canary."""
    return _single(routing, tenant, routing.live, "side_by_side", None)


def undrawn(routing: Routing, tenant: str) -> Assignment:
    """The live variant for what no model answers: no draw of a canary would say anything about it."""
    return _single(routing, tenant, routing.live, "only", None)


def _pinned(routing: Routing, asked: Asked, usable: Callable[[str], bool], name: str | None) -> Assignment:
    canary = next((canary for canary in routing.canaries if _named(canary, asked)), None)
    if canary is None:
        return _single(routing, asked.tenant, routing.live, "pinned", name)
    pinned = _single(routing, asked.tenant, canary, "pinned", name)
    return pinned if usable(canary.version) else pinned.fallen_back(NOT_READY)


def _named(canary: Canary, asked: Asked) -> bool:
    return canary.version == asked.model and canary.takes(asked.tenant)


def _single(routing: Routing, tenant: str, variant: Variant, how: AssignedHow, name: str | None) -> Assignment:
    kind: TrafficKind = "live" if variant.version == routing.live.version else "canary"
    return Assignment(routing, tenant, variant, [variant.version], 1.0, name, kind, how)
