"""Carrying out a transition: one routing object, put if absent, and the decision that follows from it.

Killed anywhere, the rollout is in the state before or in the one after: the numbers a step rests on are written first
and mean nothing without it, and the row of ``decisions`` is a projection that the next change makes good. A step
holds for the routing it was decided on; when that is not in force any more, nothing happens and the rules are asked
again. What takes a model back is the exception: it happens however often somebody else was faster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import Field

from flywheel.config import FlywheelConfig
from flywheel.errors import UsageError
from flywheel.lake.tables import Lake
from flywheel.records import Reason, Record, utcnow
from flywheel.rollout import canaries, canary_steps, promotion
from flywheel.rollout import routing as truth
from flywheel.rollout.enrolled import Enrolled, PausedBy
from flywheel.rollout.history import ROLLOUT
from flywheel.rollout.live.allocate import LEAST, shadow_shares, with_shares
from flywheel.rollout.live.result import LiveVerdict
from flywheel.rollout.machine.rules import next_share
from flywheel.rollout.machine.sight import Step
from flywheel.rollout.promotion import Change, apply, identity_of, needed, project
from flywheel.rollout.routing import Routing, Shadow, Variant, next_state
from flywheel.rollout.variants import Canary

ACTOR = ROLLOUT
Move = Callable[[Routing], Routing | None]


class Grounds(Record):
    """What one automatic transition rested on: ``rollouts/<flow>/grounds/<decision_id>.json``."""

    decision_id: str
    step: Step
    reasons: list[Reason] = Field(default_factory=list[Reason])


def take(lake: Lake, config: FlywheelConfig, step: Step) -> Change:
    """Carry out what the rules decided.

    Raises:
        UsageError: more users may not meet the candidate (gate, erased data), or there is no model to go back to.
        BusyError: the routing kept being changed by others.
    """
    if step.action in {"rollback", "uncanary"}:
        _note(lake, config, step)
        return promotion.rollback(lake, config, bad=step.version, reason=step.reason, actor=ACTOR)
    return _once(lake, config, step, _MOVES[step.action])


def begin(lake: Lake, config: FlywheelConfig, candidate: Variant, *, reason: str, actor: str = "flywheel") -> Change:
    """Hand a candidate to the machine: a shadow until its first canary step. Handed over already: nothing happens.

    Raises:
        UsageError: the gate did not pass it over the present live model, or no steps are configured.
    """
    _check(config, reason)

    def step(now: Routing | None) -> Routing | None:
        state = needed(now, config.flow)
        if candidate.version in {state.live.version, *(one.version for one in state.rollouts)}:
            return None
        project(lake, config)  # what was decided must be in the ledger before it is read, also after a lost race
        canary_steps.permission(lake, config, state, candidate.version, override=False)
        identity = identity_of("rollout", config.flow, state.n, candidate.version)
        said: dict[str, Any] = {"actor": actor, "reason": reason, "decision_id": identity}
        rollouts = [*state.rollouts, Enrolled(version=candidate.version)]
        if any(one.version == candidate.version for one in [*state.canaries, *state.shadows]):
            return next_state(state, actor, reason, identity, rollouts=rollouts)
        shadow = Shadow(**candidate.placed(), share=config.rollout.shadow_share)
        return _with(truth.with_shadow(state, shadow, **said), rollouts)

    return apply(lake, config, step)


def pause(lake: Lake, config: FlywheelConfig, version: str, *, reason: str, actor: str) -> Change:
    """Hold a rollout where it is until somebody resumes it; guards still take it back."""
    return _by_hand(
        lake, config, version, lambda state: _paused(state, version, "person"), "pause", reason=reason, actor=actor
    )


def resume(lake: Lake, config: FlywheelConfig, version: str, *, reason: str, actor: str) -> Change:
    """Let a rollout go on, whatever held it; its step begins anew."""
    return _by_hand(
        lake, config, version, lambda state: _paused(state, version, None), "resume", reason=reason, actor=actor
    )


def approve(lake: Lake, config: FlywheelConfig, version: str, *, reason: str, actor: str) -> Change:
    """Take the next step now, on a person's word for time, requests and the comparison. Not for the gate's.

    Raises:
        UsageError: it is in no rollout, or the gate did not pass it over the present live model.
    """

    def move(state: Routing) -> Routing | None:
        project(lake, config)
        canary = next((one for one in state.canaries if one.version == version), None)
        share = next_share(canary.share if canary else 0.0, config.rollout)
        return _grown(lake, config, state, version, share)

    return _by_hand(lake, config, version, move, "canary", reason=reason, actor=actor)


def back(lake: Lake, config: FlywheelConfig, version: str, *, reason: str, actor: str) -> Change:
    """Take a model back by hand, from whatever role it has.

    Raises:
        UsageError: it has none, or there is no model to go back to.
    """
    if not reason.strip():
        raise UsageError("Say why: --reason TEXT. It is kept with the decision.")
    now = needed(truth.current(lake.store, config.flow), config.flow)
    if all(one.version != version for one in now.variants()):
        names = ", ".join(one.version for one in now.variants())
        raise UsageError(f"'{version}' has no role in '{config.flow}' that it could be taken back from; in it: {names}")
    if any(one.version == version for one in now.shadows):
        return promotion.unshadow(lake, config, version, reason=reason, actor=actor)
    return promotion.rollback(lake, config, bad=version, reason=reason, actor=actor)


def allocate(lake: Lake, config: FlywheelConfig, routing: Routing, verdicts: Sequence[LiveVerdict]) -> bool:
    """Move the shadow's budget to where it decides something, where several share it; whether anything moved.

    Who cannot be the best any more leaves the shadow, but for candidates in a rollout: those leave by its rules.
    """
    budget = config.rollout.shadow_budget
    words = {one.candidate: one for one in verdicts if one.source == "shadow" and one.live == routing.live.version}
    names = [one.version for one in routing.shadows]
    if budget is None or len(names) < 2 or not words.keys() >= set(names):
        return False
    enrolled = dict.fromkeys((one.version for one in routing.rollouts), LEAST)
    shares = enrolled | shadow_shares([words[name] for name in names], budget=budget)
    reason = "shares of the shadow follow the live verdicts"

    def step(now: Routing | None) -> Routing | None:
        same = now is not None and now.n == routing.n
        return with_shares(routing, shares, actor=ACTOR, reason=reason) if same else None

    return apply(lake, config, step).changed


def grounds(lake: Lake, flow: str, decision_id: str) -> Grounds | None:
    """The numbers behind an automatic transition; None where a person decided, or it was not the machine's."""
    data = lake.store.get_or_none(_grounds_key(flow, decision_id))
    return None if data is None else Grounds.model_validate_json(data)


def _once(lake: Lake, config: FlywheelConfig, step: Step, move: Callable[..., Routing | None]) -> Change:
    """Only on the routing that the step was decided on."""

    def derive(now: Routing | None) -> Routing | None:
        state = needed(now, config.flow)
        if state.n != step.n:
            return None
        after = move(lake, config, state, step)
        return None if after is None else _signed(after, step.action, step.version, ACTOR, step.reason)

    now = truth.current(lake.store, config.flow)
    if now is not None and now.n == step.n:
        _note(lake, config, step)
    return apply(lake, config, derive)


def _by_hand(
    lake: Lake, config: FlywheelConfig, version: str, move: Move, action: promotion.Action, *, reason: str, actor: str
) -> Change:
    _check(config, reason)

    def derive(now: Routing | None) -> Routing | None:
        state = needed(now, config.flow)
        if all(one.version != version for one in state.rollouts):
            names = ", ".join(one.version for one in state.rollouts) or "none"
            raise UsageError(f"'{version}' is in no rollout of '{config.flow}'; rollouts: {names}")
        after = move(state)
        return None if after is None else _signed(after, action, version, actor, reason)

    return apply(lake, config, derive)


def _grown(lake: Lake, config: FlywheelConfig, state: Routing, version: str, share: float | None) -> Routing | None:
    """The next share, or live where there is none; running again if it was paused. The gate's word must hold."""
    canary_steps.permission(lake, config, state, version, override=False)
    said: dict[str, Any] = {"actor": ACTOR, "reason": "", "decision_id": None}
    if share is None:
        return truth.promoted(state, version, **said)
    present = next(one for one in state.variants()[1:] if one.version == version)
    tenants = present.tenants if isinstance(present, Canary) else []
    after = canaries.with_canary(state, Canary(**present.placed(), share=share, tenants=tenants), **said)
    return _with(after, _turned(after.rollouts, version, None))


def _paused(state: Routing, version: str, by: PausedBy | None) -> Routing | None:
    rollouts = _turned(state.rollouts, version, by)
    return None if rollouts == state.rollouts else next_state(state, ACTOR, "", None, rollouts=rollouts)


def _turned(rollouts: Sequence[Enrolled], version: str, by: PausedBy | None) -> list[Enrolled]:
    return [one.model_copy(update={"paused": by}) if one.version == version else one for one in rollouts]


def _with(routing: Routing, rollouts: list[Enrolled]) -> Routing:
    return Routing.model_validate({**dict(routing), "rollouts": rollouts})


def _signed(after: Routing, action: promotion.Action, version: str, actor: str, reason: str) -> Routing:
    """Who, why, and the decision's name, which follows from what was decided on which state."""
    if action == "canary" and after.live.version == version:
        action = "promote"
    identity = identity_of(action, after.flow, after.n - 1, version)
    return after.model_copy(update={"actor": actor, "reason": reason, "decision_id": identity, "ts": utcnow()})


def _note(lake: Lake, config: FlywheelConfig, step: Step) -> None:
    action: promotion.Action = step.action
    identity = identity_of(action, config.flow, step.n, step.version)
    kept = Grounds(decision_id=identity, step=step, reasons=step.reasons)
    lake.store.put_if_absent(_grounds_key(config.flow, identity), kept.model_dump_json().encode())


def _grounds_key(flow: str, decision_id: str) -> str:
    return f"rollouts/{flow}/grounds/{decision_id}.json"


def _check(config: FlywheelConfig, reason: str) -> None:
    if not reason.strip():
        raise UsageError("Say why: --reason TEXT. It is kept with the decision.")
    if not config.rollout.canary_steps:
        raise UsageError(
            "rollout.canary_steps is empty: what passes the gate is live at once. Set it, e.g. [0.05, 0.25, 0.5]."
        )


_MOVES: dict[str, Callable[[Lake, FlywheelConfig, Routing, Step], Routing | None]] = {
    "canary": lambda lake, config, state, step: _grown(lake, config, state, step.version, step.share),
    "promote": lambda lake, config, state, step: _grown(lake, config, state, step.version, None),
    "unshadow": lambda _lake, _config, state, step: truth.without_shadow(state, step.version, actor=ACTOR, reason=""),
    "pause": lambda _lake, _config, state, step: _paused(state, step.version, step.by),
    "resume": lambda _lake, _config, state, step: _paused(state, step.version, None),
}
