"""Changes of routing, each safe to run twice or at once, and what follows from them.

The routing object is published first and is the truth. The rows of ``decisions`` and MLflow's aliases are
projections: ``project`` writes what is missing, in order, each number exactly once, so that a process killed in
between, or an MLflow that was down, is made good by the next change or by ``flywheel status``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from flywheel.config import FlywheelConfig
from flywheel.errors import BusyError, EnvironmentProblem, UsageError
from flywheel.lake.erasures import tainted_lineage
from flywheel.lake.manifests import content_id
from flywheel.lake.tables import Lake
from flywheel.records import Decision, Reason, Verdict, utcnow
from flywheel.registry.tracking import project_aliases
from flywheel.rollout import routing as truth
from flywheel.rollout.canaries import without_canary
from flywheel.rollout.enrolled import turned
from flywheel.rollout.routing import Routing, Shadow, Variant

Action = Literal[
    "bootstrap", "shadow", "unshadow", "canary", "uncanary", "promote", "rollback", "rollout", "pause", "resume"
]

_ATTEMPTS: Final = 5


@dataclass(frozen=True)
class Change:
    """The routing now in force. ``changed`` is false when it already was as wanted; notes say what is not yet so."""

    routing: Routing
    changed: bool
    notes: list[str] = field(default_factory=list)


def start(lake: Lake, config: FlywheelConfig, live: Variant, *, actor: str = "flywheel") -> Change:
    """Make ``live`` the first live model; a flow that has one keeps it."""

    def step(now: Routing | None) -> Routing | None:
        if now is not None:
            return None
        first = truth.bootstrap(config.flow, live, actor=actor)
        return first.model_copy(update={"decision_id": identity_of("bootstrap", config.flow, 0, live.version)})

    return apply(lake, config, step)


def shadow(lake: Lake, config: FlywheelConfig, candidate: Variant, *, actor: str = "flywheel") -> Change:
    """Mirror live traffic to ``candidate``, ``rollout.shadow_share`` of it. A canary is past that and stays one.

    Raises:
        UsageError: it is the live model, or the flow has none yet.
    """
    wanted = Shadow(**candidate.placed(), share=config.rollout.shadow_share)

    def step(now: Routing | None) -> Routing | None:
        state = needed(now, config.flow)
        if wanted in state.shadows or any(canary.version == wanted.version for canary in state.canaries):
            return None
        identity = identity_of("shadow", config.flow, state.n, wanted.version)
        reason = f"shadow of {wanted.version}"
        return truth.with_shadow(state, wanted, actor=actor, reason=reason, decision_id=identity)

    return apply(lake, config, step)


def unshadow(lake: Lake, config: FlywheelConfig, version: str, *, reason: str, actor: str = "flywheel") -> Change:
    """Stop mirroring to ``version``; fine when it is no shadow."""

    def step(now: Routing | None) -> Routing | None:
        state = needed(now, config.flow)
        if all(other.version != version for other in state.shadows):
            return None
        identity = identity_of("unshadow", config.flow, state.n, version)
        return truth.without_shadow(state, version, actor=actor, reason=reason, decision_id=identity)

    return apply(lake, config, step)


def promote(
    lake: Lake,
    config: FlywheelConfig,
    version: str,
    *,
    reason: str,
    actor: str = "flywheel",
    allowed: Callable[[Routing], None] | None = None,
) -> Change:
    """Make the shadow or canary ``version`` live; the model it replaces is remembered for ``rollback``.

    Does not ask the gate: the caller does, and stores its verdict with ``record_verdict`` first. ``allowed`` is
    shown the routing that is replaced, and raises where that verdict does not hold for it.

    Raises:
        UsageError: it is neither live nor a shadow or canary, or it is not allowed.
        BusyError: somebody else changed the routing to something else at the same moment, again and again.
    """

    def step(now: Routing | None) -> Routing | None:
        state = needed(now, config.flow)
        if state.live.version == version:
            return None
        if allowed is not None:
            allowed(state)
        identity = identity_of("promote", config.flow, state.n, version)
        return truth.promoted(state, version, actor=actor, reason=reason, decision_id=identity)

    return apply(lake, config, step)


def rollback(
    lake: Lake,
    config: FlywheelConfig,
    *,
    bad: str | None = None,
    reason: str = "rollback",
    actor: str = "flywheel",
    accept_erased: bool = False,
) -> Change:
    """Make the last good model live again; every canary ends with it.

    Run twice, it changes nothing the second time: a model that was left by a rollback is not returned to.

    Args:
        lake: the lake.
        config: the flow.
        bad: only leave this model; a canary is stopped, and when another model is live there is nothing to do.
        reason: what people read later.
        actor: who did it.
        accept_erased: go back even to a model that was made of data erased since.

    Raises:
        UsageError: no other model was live before, or it was made of data erased since.
        BusyError: the routing kept being changed by others.
    """

    def step(now: Routing | None) -> Routing | None:
        state = needed(now, config.flow)
        if any(canary.version == bad for canary in state.canaries):
            identity = identity_of("uncanary", config.flow, state.n, bad or "")
            return without_canary(state, bad or "", actor=actor, reason=reason, decision_id=identity)
        if (bad is not None and state.live.version != bad) or _came_by_rollback(lake, state):
            return None
        if state.previous is not None and not accept_erased:
            _refuse_erased(lake, state.previous.version)
        identity = identity_of("rollback", config.flow, state.n, state.live.version)
        return truth.rolled_back(state, actor=actor, reason=reason, decision_id=identity)

    return apply(lake, config, step)


def record_verdict(
    lake: Lake,
    config: FlywheelConfig,
    *,
    turn_id: str,
    candidate: str,
    live: str,
    verdict: Verdict,
    reasons: Sequence[Reason],
    text: str,
    evidence: Sequence[str] = (),
    actor: str = "flywheel",
) -> Decision:
    """Store the gate's verdict, once for each turn and content, and return the row."""
    identity = content_id("gate", config.flow, turn_id, candidate, live, verdict, list(reasons), list(evidence))
    now = truth.current(lake.store, config.flow)
    row = Decision(
        decision_id=identity,
        flow=config.flow,
        ts=utcnow(),
        turn_id=turn_id,
        action="gate",
        verdict=verdict,
        candidate=candidate,
        live=live,
        routing_n=now.n if now else None,
        actor=actor,
        reasons=list(reasons),
        evidence=list(evidence),
        text=text,
    )
    if lake.append("decisions", [row], app=f"decisions/{config.flow}/{identity}", version=0):
        return row
    return next(old for old in lake.records("decisions", Decision, flow=config.flow) if old.decision_id == identity)


def project(lake: Lake, config: FlywheelConfig) -> list[str]:
    """Write the decisions and aliases that follow from the routing and are missing.

    Returns:
        What could not be written, one sentence each; empty when all is as it should be.
    """
    now = truth.current(lake.store, config.flow)
    if now is None:
        return []
    app = f"routing/{config.flow}"
    last = lake.last_committed("decisions", app) or 0
    before = truth.read(lake.store, config.flow, last) if last else None
    for n in range(last + 1, now.n + 1):
        state = truth.read(lake.store, config.flow, n)
        lake.append("decisions", [row_of(before, state)], app=app, version=n)
        before = state
    candidates = [*now.shadows, *now.canaries]  # the last one is the nearest to being live
    candidate = candidates[-1].version if candidates else None
    try:
        project_aliases(config, {"live": now.live.version, "candidate": candidate})
    except EnvironmentProblem as error:
        return [f"routing {now.n} is in force, but MLflow does not show it yet: {error}"]
    return []


def apply(lake: Lake, config: FlywheelConfig, step: Callable[[Routing | None], Routing | None]) -> Change:
    """Derive the next state with ``step`` (None: it is as wanted) from the one in force and publish it.

    A lost race is decided again only while the live model is the one that the decision was made about: a
    promotion must not undo the rollback that overtook it.
    """
    now = truth.current(lake.store, config.flow)
    for _ in range(_ATTEMPTS):
        wanted = step(now)
        if wanted is None:
            return Change(needed(now, config.flow), changed=False, notes=project(lake, config))
        try:
            truth.publish(lake.store, wanted)
        except BusyError:
            seen, now = now, truth.current(lake.store, config.flow)
            if _live(seen) != _live(now) and step(now) is not None:
                raise
            continue
        return Change(wanted, changed=True, notes=project(lake, config))
    raise BusyError(f"the routing of '{config.flow}' kept being changed by others; look at it and repeat the command")


def _live(routing: Routing | None) -> str | None:
    return routing.live.version if routing else None


def row_of(before: Routing | None, state: Routing) -> Decision:
    """The decision that led to ``state``. Pure: the same routing objects always give the same row."""
    action = _action(before, state)
    concerned = state.live.version if action in {"bootstrap", "promote"} else _changed(before, state)
    return Decision(
        decision_id=state.decision_id or content_id("routing", state.flow, state.n),
        flow=state.flow,
        ts=state.ts,
        action=action,
        candidate=before.live.version if action == "rollback" and before else concerned,
        live=state.live.version,
        routing_n=state.n,
        actor=state.actor,
        text=state.reason,
    )


def _action(before: Routing | None, state: Routing) -> Action:
    if before is None:
        return "bootstrap"
    if state.live.version == before.live.version:
        return _role_change(before, state)
    was_candidate = any(other.version == state.live.version for other in before.variants())
    back = (state.decision_id or "").startswith("rollback-") or not was_candidate  # only candidates can be promoted
    return "rollback" if back else "promote"


def _role_change(before: Routing, state: Routing) -> Action:
    if state.canaries != before.canaries:
        return "uncanary" if len(state.canaries) < len(before.canaries) else "canary"
    if state.rollouts != before.rollouts and state.shadows == before.shadows:
        return turned(before.rollouts, state.rollouts)[0]
    return "shadow" if len(state.shadows) >= len(before.shadows) else "unshadow"


def _changed(before: Routing | None, state: Routing) -> str | None:
    """The version whose role changed; a shadow that becomes a canary is one change."""
    old = {other.version: other for other in before.variants()[1:]} if before else {}
    new = {other.version: other for other in state.variants()[1:]}
    changed = [version for version in {**old, **new} if old.get(version) != new.get(version)]
    if not changed and before and state.rollouts != before.rollouts:
        return turned(before.rollouts, state.rollouts)[1]
    return changed[0] if changed else None


def _refuse_erased(lake: Lake, version: str) -> None:
    if erased := tainted_lineage(lake, "model", version):
        raise UsageError(
            f"{version}, the model before, was made of data of people erased since ({', '.join(erased[:3])}). "
            "Run a turn for a model without it, or roll back all the same with --accept-erased."
        )


def _came_by_rollback(lake: Lake, state: Routing) -> bool:
    """Whether the live model became live by a rollback. Walks back over changes of shadows, which keep it live."""
    n, live = state.n, state.live.version
    while n > 1:
        before = truth.read(lake.store, state.flow, n - 1)
        if before.live.version != live:
            return _action(before, truth.read(lake.store, state.flow, n)) == "rollback"
        n -= 1
    return False


def needed(now: Routing | None, flow: str) -> Routing:
    """The routing in force.

    Raises:
        UsageError: there is none yet.
    """
    if now is None:
        raise UsageError(f"'{flow}' has no live model yet; start one with `flywheel up --model NAME_OR_PATH`")
    return now


def identity_of(action: Action, flow: str, n: int, version: str) -> str:
    """Id of the decision to do something about ``version`` in state ``n``."""
    return content_id(action, flow, n, version)
