"""The next state of a routing when a canary starts, changes its share, or stops. Pure.

Guarantee, for every key and any number of canaries: a change of one canary moves keys between it and the live
model only. Starting or growing moves keys from live to it and none out of it; shrinking or stopping moves keys
from it to live and none into it. Keys of other canaries stay where they are.
"""

from __future__ import annotations

from flywheel.errors import UsageError
from flywheel.rollout import slots
from flywheel.rollout.routing import Routing, next_state
from flywheel.rollout.variants import Canary


def with_canary(
    routing: Routing, canary: Canary, *, actor: str, reason: str, decision_id: str | None = None
) -> Routing:
    """The next state with ``canary`` answering its share; a shadow of that version ends, a canary of it is resized.

    The places in ``canary.slots`` are not read: it keeps those it has and gets the lowest free ones.

    Raises:
        UsageError: that version is live, or nothing would be left for the live model.
    """
    if canary.version == routing.live.version:
        raise UsageError(f"'{canary.version}' is the live model and cannot be a canary beside itself")
    others = [other for other in routing.canaries if other.version != canary.version]
    own = next((other.slots for other in routing.canaries if other.version == canary.version), [])
    taken = [place for other in others for place in other.slots]
    left = slots.TICKS - slots.width(taken)
    if slots.ticks(canary.share) >= left:
        raise UsageError(
            f"a share of {canary.share:g} for '{canary.version}' leaves nothing to the live model '"
            f"{routing.live.version}': {left / slots.TICKS:g} is not taken by other canaries, and it needs some of that"
        )
    placed = canary.model_copy(update={"slots": slots.resized(own, taken, slots.ticks(canary.share))})
    at = next((i for i, other in enumerate(routing.canaries) if other.version == canary.version), len(others))
    shadows = [shadow for shadow in routing.shadows if shadow.version != canary.version]
    canaries = [*others[:at], placed, *others[at:]]
    return next_state(routing, actor, reason, decision_id, shadows=shadows, canaries=canaries)


def with_share(
    routing: Routing, version: str, share: float, *, actor: str, reason: str, decision_id: str | None = None
) -> Routing:
    """The next state with another share for the canary ``version``.

    Raises:
        UsageError: that version is no canary, or nothing would be left for the live model.
    """
    canary = _needed(routing, version)
    wanted = Canary.model_validate({**canary.model_dump(), "share": share, "slots": []})
    return with_canary(routing, wanted, actor=actor, reason=reason, decision_id=decision_id)


def without_canary(
    routing: Routing, version: str, *, actor: str, reason: str, decision_id: str | None = None
) -> Routing:
    """The next state with ``version`` answering nobody; its keys go back to the live model.

    Raises:
        UsageError: that version is no canary.
    """
    gone = _needed(routing, version)
    others = [other for other in routing.canaries if other is not gone]
    return next_state(routing, actor, reason, decision_id, canaries=others)


def _needed(routing: Routing, version: str) -> Canary:
    found = next((canary for canary in routing.canaries if canary.version == version), None)
    if found is None:
        names = ", ".join(canary.version for canary in routing.canaries)
        raise UsageError(f"'{version}' is no canary of '{routing.flow}'; canaries: {names or 'none'}")
    return found
