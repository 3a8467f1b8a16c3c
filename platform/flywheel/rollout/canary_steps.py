"""A canary starts, takes another share, or stops: each one routing object and one decision, safe to run twice.

The gate says no by default. More users meet a model only if the gate's last verdict about it, against the model that
is live now, is to promote, or if a person overrides that for a model in the shadow. Fewer users may at any time.
"""

from __future__ import annotations

from collections.abc import Sequence

from flywheel.config import FlywheelConfig
from flywheel.errors import UsageError
from flywheel.lake.erasures import tainted_lineage
from flywheel.lake.tables import Lake
from flywheel.registry.versions import resolve
from flywheel.rollout import canaries, history
from flywheel.rollout.promotion import Change, apply, identity_of, needed, project
from flywheel.rollout.routing import Canary, Routing, Variant

OVERRIDDEN = "without a passed gate: "


def start(
    lake: Lake,
    config: FlywheelConfig,
    version: str,
    share: float,
    *,
    reason: str,
    actor: str = "flywheel",
    tenants: Sequence[str] = (),
    override: bool = False,
) -> Change:
    """Let ``version`` answer ``share`` of the users (sessions, requests), or that much of them from now on.

    Args:
        lake: the lake.
        config: the flow.
        version: a shadow, a canary, or a registered model that passed the gate.
        share: in (0, 1).
        reason: what people read later.
        actor: who did it.
        tenants: only their requests; none: everybody's, or as the canary has it.
        override: start or grow it although the gate did not pass it. Needs it in the shadow, or a canary already.

    Raises:
        UsageError: the gate did not pass it, it learnt from an erased person, or the routing does not allow it.
    """
    _check_reason(reason)

    def step(now: Routing | None) -> Routing | None:
        state = needed(now, config.flow)
        present = next((canary for canary in state.canaries if canary.version == version), None)
        limits = list(tenants) or (present.tenants if present else [])
        if present is not None and (present.share, present.tenants) == (share, limits):
            return None
        said = reason
        if present is None or share > present.share or limits != present.tenants:
            project(lake, config)  # what was decided must be in the ledger before it is read, also after a lost race
            said = permission(lake, config, state, version, override) + reason
        wanted = _canary(present or _variant(lake, config, state, version), share, limits)
        identity = identity_of("canary", config.flow, state.n, version)
        return canaries.with_canary(state, wanted, actor=actor, reason=said, decision_id=identity)

    return apply(lake, config, step)


def stop(lake: Lake, config: FlywheelConfig, version: str, *, reason: str, actor: str = "flywheel") -> Change:
    """Give a canary's users back to the live model; fine when it is no canary."""
    _check_reason(reason)

    def step(now: Routing | None) -> Routing | None:
        state = needed(now, config.flow)
        if all(canary.version != version for canary in state.canaries):
            return None
        identity = identity_of("uncanary", config.flow, state.n, version)
        return canaries.without_canary(state, version, actor=actor, reason=reason, decision_id=identity)

    return apply(lake, config, step)


def permission(lake: Lake, config: FlywheelConfig, state: Routing, version: str, override: bool) -> str:
    """What precedes the reason.

    Raises:
        UsageError: more users may not meet ``version``.
    """
    erased = tainted_lineage(lake, "model", version)
    if erased:
        raise UsageError(
            f"'{version}' learnt from a person who was erased since ({', '.join(erased)}); run `flywheel turn` for a "
            "model that did not"
        )
    rows = history.decisions(lake, config.flow)
    if erased is not None and history.passed(rows, candidate=version, live=state.live.version):
        return ""
    seen = version in {other.version for other in [*state.shadows, *state.canaries]}
    if override and seen:
        return OVERRIDDEN
    why = (
        "has no verdict to promote"
        if erased is not None
        else "cannot name all that it learnt from, so it has no valid verdict"
    )
    how = "to do it all the same, say --override with the reason" if seen else "mirror traffic to it first"
    raise UsageError(f"'{version}' {why} against the live model '{state.live.version}' that still holds; {how}")


def _variant(lake: Lake, config: FlywheelConfig, state: Routing, version: str) -> Variant:
    known = next((variant for variant in state.variants() if variant.version == version), None)
    return known or Variant(version=version, folder=str(resolve(lake, config, version).folder))


def _canary(variant: Variant, share: float, tenants: list[str]) -> Canary:
    try:
        return Canary(**variant.placed(), share=share, tenants=tenants)
    except ValueError as error:
        raise UsageError(f"a canary's share is between 0 and 1, in steps of 0.000001; got {share:g}") from error


def _check_reason(reason: str) -> None:
    if not reason.strip():
        raise UsageError("Say why: --reason TEXT. It is kept with the decision.")
