"""What follows from where the candidates stand and what is seen of them. Pure: no clock, no store.

The order is the promise. First what takes models back: it needs no permission, waits for nobody, and a pause does not
hold it. Then pauses, then what moves a candidate on, which needs everything: the gate's word for this live model,
fresh counters, no guard in doubt, time, requests and, where it is asked for, the comparison on live traffic. Whatever
is not known counts as not given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from flywheel.config import RolloutConfig
from flywheel.records import Reason
from flywheel.rollout.enrolled import PausedBy
from flywheel.rollout.live.result import LiveVerdict
from flywheel.rollout.machine.sight import Action, Sight, Step
from flywheel.rollout.machine.state import Candidate, RolloutState

_NEEDED = frozenset({"quality", "missing"})
"""Parts of the comparison that must be measured; what a candidate costs may stay unknown."""
OVERDUE = 1.5
"""Times the planned number of units without a clear answer, after which more of them are not waited for."""


def due_steps(state: RolloutState, sights: Mapping[str, Sight], policy: RolloutConfig, now: datetime) -> list[Step]:
    """The transitions that are due now, the most urgent one first: whoever can take only some takes those.

    Nobody is moved on while anybody must be taken back or held, also where that cannot be done.

    Args:
        state: where everybody stands.
        sights: what is seen, by version; a version without one was not seen.
        policy: the rollout's settings; without ``canary_steps`` nothing is ever due.
        now: the time.
    """
    if not policy.canary_steps:
        return []
    seen = {one.version: sights.get(one.version) or Sight(version=one.version) for one in state.candidates}
    live = sights.get(state.live.version) or Sight(version=state.live.version)
    urgent = [
        *_taken_back(state, live, seen, policy, now),
        *(step for one in state.candidates for step in _held(state, one, seen[one.version], policy, now)),
    ]
    return urgent or [
        step for one in _in_order(state) for step in _moved_on(state, one, seen[one.version], policy, now)
    ]


def next_share(share: float, policy: RolloutConfig) -> float | None:
    """The step after ``share``; None: live."""
    return next((step for step in policy.canary_steps if step > share + 1e-9), None)


def waits_for(state: RolloutState, one: Candidate, sight: Sight, policy: RolloutConfig, now: datetime) -> list[str]:
    """What an enrolled candidate that runs still lacks for its next step, in words; empty: nothing."""
    return _lacks(state, one, sight, policy, now)


def _taken_back(
    state: RolloutState, live: Sight, seen: Mapping[str, Sight], policy: RolloutConfig, now: datetime
) -> Iterator[Step]:
    if _in_watch(state, policy, now) and (bad := _breaches(live, state.live.previous)):
        yield _step(state, "rollback", state.live.version, _because("taken back", bad), bad)
    for one in state.candidates:
        bad = _breaches(seen[one.version], state.live.version)
        if bad and one.stage == "canary":
            yield _step(state, "uncanary", one.version, _because("taken back", bad), bad)
        elif bad and one.enrolled:
            yield _step(state, "unshadow", one.version, _because("rejected in the shadow", bad), bad)


def _held(state: RolloutState, one: Candidate, sight: Sight, policy: RolloutConfig, now: datetime) -> Iterator[Step]:
    """Pauses, and the end of those that end by themselves."""
    if not one.enrolled:
        return
    if one.paused is None:
        found = _missing(one, sight, policy, now) or _unclear(state, one, sight, policy, now)
        if found is not None:
            by, text = found
            yield _step(state, "pause", one.version, text, sight.guards).model_copy(update={"by": by})
    elif _fresh(sight, policy, now) and (one.paused == "missing" or (one.paused == "capacity" and sight.ready)):
        yield _step(state, "resume", one.version, "what was missing is there again", [])


def _missing(one: Candidate, sight: Sight, policy: RolloutConfig, now: datetime) -> tuple[PausedBy, str] | None:
    """What should be there and is not, after as long as it may take."""
    settings, waited = policy.step, now - max(one.since, sight.watched or one.since)
    if not _fresh(sight, policy, now):
        if waited > timedelta(seconds=settings.silence_s):
            return "missing", f"no gateway told its counters for {settings.silence_s:g} s"
    elif not sight.ready and waited > timedelta(seconds=settings.placement_s):
        why = sight.obstacle or "its engine answers no gateway"
        return "capacity", f"not served after {settings.placement_s:g} s: {why}"
    return None


def _unclear(
    state: RolloutState, one: Candidate, sight: Sight, policy: RolloutConfig, now: datetime
) -> tuple[PausedBy, str] | None:
    """A step that cannot end, or that has had its chance."""
    if not one.passed:
        return "inconclusive", "the gate has no verdict to promote it over the live model that still holds"
    if _waits_its_turn(state, one) or not _lacks(state, one, sight, policy, now):
        return None
    verdict = sight.quality if _asks_quality(one, policy) else None
    if verdict is not None and _overdue(verdict):
        return "inconclusive", f"no clear answer after {verdict.units:,} of {verdict.planned_units:,} planned units"
    if now - one.since >= timedelta(minutes=policy.step.max_minutes):
        return "inconclusive", f"the step showed too little in {policy.step.max_minutes:g} minutes"
    return None


def _moved_on(
    state: RolloutState, one: Candidate, sight: Sight, policy: RolloutConfig, now: datetime
) -> Iterator[Step]:
    if not one.enrolled or one.paused is not None or _lacks(state, one, sight, policy, now):
        return
    share = next_share(one.share, policy)
    shown = [*sight.guards, *(sight.quality.reasons if sight.quality else [])]
    text = f"{sight.requests:,} requests without a guard's alarm" if one.stage == "canary" else "the gate passed it"
    if share is None:
        yield _step(state, "promote", one.version, f"live after its last canary step: {text}", shown)
    else:
        step = _step(state, "canary", one.version, f"canary for {100 * share:.6g} % of the users: {text}", shown)
        yield step.model_copy(update={"share": share})


def _lacks(state: RolloutState, one: Candidate, sight: Sight, policy: RolloutConfig, now: datetime) -> list[str]:
    """Everything that keeps a candidate from its next step."""
    lacking = [
        *([] if one.passed else ["the gate's verdict over the present live model"]),
        *([] if _fresh(sight, policy, now) else ["counters of the gateways"]),
        *([] if sight.ready else [sight.obstacle or "its engine"]),
        *_quality_lacks(one, sight, policy),
    ]
    if one.stage == "shadow":
        return lacking + (["the canary before it to end"] if _waits_its_turn(state, one) else [])
    if next_share(one.share, policy) is None and _in_watch(state, policy, now):
        lacking.append(f"the watch over {state.live.version} to end")
    return lacking + _canary_lacks(one, sight, policy, now)


def _canary_lacks(one: Candidate, sight: Sight, policy: RolloutConfig, now: datetime) -> list[str]:
    """Time and requests since the step began before this controller's eyes, and every guard's word."""
    settings, lacking = policy.step, list[str]()
    minutes = (now - max(one.since, sight.watched or now)).total_seconds() / 60
    if minutes < settings.min_minutes:
        lacking.append(f"{settings.min_minutes - minutes:.3g} more minutes")
    if sight.requests < settings.min_requests:
        lacking.append(f"{settings.min_requests - sight.requests:,} more requests")
    if not sight.guards:
        lacking.append("a look at the operational guards")
    return lacking + [guard.text for guard in sight.guards if guard.passed is None]


def _waits_its_turn(state: RolloutState, one: Candidate) -> bool:
    """One canary at a time: two would share the users that each needs."""
    return one.stage == "shadow" and any(other.stage == "canary" for other in state.candidates)


def _quality_lacks(one: Candidate, sight: Sight, policy: RolloutConfig) -> list[str]:
    if not _asks_quality(one, policy):
        return []
    if sight.quality is None:
        return ["the comparison on live traffic"]
    if sight.quality.state not in {"better", "no_worse"}:
        return ["a clear answer of the comparison on live traffic"]
    return [reason.text for reason in sight.quality.reasons if reason.name in _NEEDED and reason.passed is None]


def _overdue(verdict: LiveVerdict) -> bool:
    return verdict.state == "undecided" and 0 < OVERDUE * verdict.planned_units <= verdict.units


def _asks_quality(one: Candidate, policy: RolloutConfig) -> bool:
    """Whether the step after this one needs the comparison's word."""
    if policy.step.quality == "live":
        return next_share(one.share, policy) is None
    return policy.step.quality == "every"


def _in_watch(state: RolloutState, policy: RolloutConfig, now: datetime) -> bool:
    """Whether the live model was promoted a short while ago, over one that can come back."""
    young = now - state.live.since < timedelta(minutes=policy.step.watch_minutes)
    return state.live.promoted and state.live.previous is not None and young


def _breaches(sight: Sight, against: str | None) -> list[Reason]:
    """Guards that say it is worse; the comparison too, if it was with ``against``."""
    bad = [guard for guard in sight.guards if guard.passed is False]
    verdict = sight.quality
    if verdict is not None and verdict.state == "worse" and verdict.live == against:
        found = [reason for reason in verdict.reasons if reason.passed is False]
        text = f"worse than {against} on live traffic, mean difference {_number(verdict.mean)}"
        bad += found or [Reason(name="quality", passed=False, measured=verdict.mean, text=text)]
    return bad


def _fresh(sight: Sight, policy: RolloutConfig, now: datetime) -> bool:
    return sight.reported is not None and now - sight.reported <= timedelta(seconds=policy.step.silence_s)


def _in_order(state: RolloutState) -> list[Candidate]:
    """Whoever is nearest to being live first."""
    return sorted(state.candidates, key=lambda one: (-one.share, one.since))


def _step(state: RolloutState, action: Action, version: str, reason: str, reasons: list[Reason]) -> Step:
    return Step(action=action, version=version, n=state.n, reason=reason, reasons=reasons)


def _because(what: str, bad: list[Reason]) -> str:
    return f"{what}: {'; '.join(reason.text for reason in bad)}"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:+.3g}"
