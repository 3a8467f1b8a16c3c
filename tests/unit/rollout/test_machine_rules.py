"""What follows from what is seen: one table of situations, each with the one step that is due."""

from datetime import UTC, datetime, timedelta

import pytest

from flywheel.config import RolloutConfig
from flywheel.records import Decision, Reason
from flywheel.rollout import canaries, routing
from flywheel.rollout.enrolled import Enrolled
from flywheel.rollout.live.result import LiveVerdict
from flywheel.rollout.machine.look import quality_of
from flywheel.rollout.machine.rules import due_steps, waits_for
from flywheel.rollout.machine.sight import Sight
from flywheel.rollout.machine.state import Candidate, Live, RolloutState, stage_of, state_of
from flywheel.rollout.routing import Canary, Shadow, Variant

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
POLICY = RolloutConfig.model_validate(
    {
        "canary_steps": [0.05, 0.25, 0.5],
        "step": {"min_minutes": 10, "min_requests": 200, "max_minutes": 60, "watch_minutes": 30, "silence_s": 60,
                 "placement_s": 300},
    }
)  # fmt: skip
FINE = [Reason(name="error", passed=True, text="errors 0.0%")]
BAD = [Reason(name="error", passed=False, text="errors 40 % against 1 %")]


def ago(**back):
    return NOON - timedelta(**back)


def verdict(state="no_worse", source="canary", **more):
    given = {
        "flow": "triage", "candidate": "v2", "live": "v1", "pairs": 50, "units": 50, "missing": 0, "mean": 0.0,
        "low": -0.1, "high": 0.1, "planned_units": 100, "reasons": [], **more,
    }  # fmt: skip
    return LiveVerdict(state=state, source=source, **given)


def state(*, share=0.05, live=None, others=(), **more):
    given = {
        "version": "v2", "stage": "canary" if share else "shadow", "share": share, "since": ago(minutes=11),
        "enrolled": True, "passed": True, **more,
    }  # fmt: skip
    present = live or Live(version="v1", since=ago(days=9), previous="v0", promoted=False)
    return RolloutState(flow="triage", n=7, live=present, candidates=[Candidate(**given), *others])


def sight(**more):
    given = {
        "version": "v2", "reported": ago(seconds=1), "watched": ago(minutes=11), "requests": 200, "guards": FINE,
        "ready": True, "quality": verdict(), **more,
    }  # fmt: skip
    return Sight(**given)


def next_step(*given):
    return next(iter(due_steps(*given)), None)


def due(seen_state, seen, policy=POLICY, **others):
    step = next_step(seen_state, {"v2": seen, **others}, policy, NOON)
    return step and (step.action, step.version, step.share if step.action == "canary" else step.by)


def test_without_steps_nothing_is_ever_due():
    assert due(state(), sight(guards=BAD), RolloutConfig()) is None
    assert RolloutConfig().canary_steps == []


@pytest.mark.parametrize(
    ("share", "step"), [(0.0, ("canary", "v2", 0.05)), (0.05, ("canary", "v2", 0.25)), (0.1, ("canary", "v2", 0.25)),
                        (0.25, ("canary", "v2", 0.5)), (0.5, ("promote", "v2", None))],
)  # fmt: skip
def test_everything_fine_takes_the_next_step_and_no_other(share, step):
    assert due(state(share=share), sight()) == step


@pytest.mark.parametrize(
    ("seen", "waits"),
    [
        ({"requests": 199}, "1 more requests"),
        ({"watched": ago(minutes=9)}, "1 more minutes"),
        ({"watched": None}, "10 more minutes"),
        ({"guards": []}, "operational guards"),
        ({"guards": [Reason(name="error", passed=None, text="too few")]}, "too few"),
        ({"ready": None}, "its engine"),
        ({"ready": False, "obstacle": "no room"}, "no room"),
        ({"reported": ago(seconds=61), "watched": ago(seconds=61)}, "counters"),
    ],
)
def test_whatever_is_missing_waits(seen, waits):
    held = state(since=ago(minutes=11) if "watched" not in seen else seen["watched"] or ago(minutes=11))
    assert (due(held, sight(**seen)) or ("pause",))[0] == "pause"
    [text] = [text for text in waits_for(held, held.candidates[0], sight(**seen), POLICY, NOON) if waits in text]
    assert text


def test_nothing_seen_never_promotes_and_pauses():
    assert next_step(state(share=0.5), {}, POLICY, NOON).action == "pause"
    assert due(state(share=0.5), Sight(version="v2")) == ("pause", "v2", "missing")
    fresh = state(share=0.5, since=ago(seconds=30))
    assert due(fresh, Sight(version="v2", watched=ago(seconds=30))) is None


def test_a_controller_that_just_began_does_not_call_silence_what_it_did_not_hear():
    assert due(state(share=0.5), Sight(version="v2", watched=ago(seconds=5))) is None


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
@pytest.mark.parametrize("paused", [None, "person", "inconclusive", "missing"])
@pytest.mark.parametrize("enrolled", [True, False])
def test_a_breach_takes_a_canary_back_whoever_started_it_and_whatever_held_it(share, paused, enrolled):
    held = state(share=share, paused=paused if enrolled else None, enrolled=enrolled, passed=False)
    assert due(held, sight(guards=BAD))[0] == "uncanary"
    assert due(held, sight(quality=verdict("worse")))[0] == "uncanary"
    step = next_step(held, {"v2": sight(guards=BAD)}, POLICY, NOON)
    assert "errors 40 % against 1 %" in step.reason
    assert step.reasons == BAD


def test_whoever_must_be_taken_back_hides_nobody_else_and_no_pause_and_nobody_moves_on():
    live = Live(version="v1", since=ago(minutes=5), previous="v0", promoted=True)
    third = state(version="v3", share=0.0).candidates[0]
    seen = {"v1": Sight(version="v1", guards=BAD), "v2": sight(guards=BAD), "v3": sight(version="v3", ready=False)}
    steps = due_steps(state(live=live, others=[third]), seen, POLICY, NOON)
    assert [(step.action, step.version) for step in steps] == [("rollback", "v1"), ("uncanary", "v2"), ("pause", "v3")]


def test_a_verdict_about_another_live_model_takes_nobody_back():
    assert due(state(), sight(quality=verdict("worse", live="v0")))[0] != "uncanary"


def test_worse_in_the_shadow_is_rejected_only_if_the_machine_has_it():
    worse = sight(quality=verdict("worse", source="shadow"))
    assert due(state(share=0.0), worse) == ("unshadow", "v2", None)
    assert due(state(share=0.0, enrolled=False), worse) is None


def test_without_the_gate_s_word_it_pauses():
    assert due(state(share=0.5, passed=False), sight()) == ("pause", "v2", "inconclusive")
    assert due(state(share=0.5, passed=False, enrolled=False), sight()) is None


@pytest.mark.parametrize("by", ["person", "inconclusive"])
def test_who_is_held_stays_held(by):
    assert due(state(share=0.5, paused=by), sight()) is None


def test_what_was_missing_ends_by_itself_when_it_is_there():
    assert due(state(paused="missing"), sight()) == ("resume", "v2", None)
    assert due(state(paused="missing"), sight(reported=ago(minutes=2))) is None
    assert due(state(paused="capacity"), sight(ready=False)) is None
    assert due(state(paused="capacity", since=ago(seconds=1)), sight(ready=None)) is None
    assert due(state(paused="capacity"), sight()) == ("resume", "v2", None)


def test_an_engine_without_a_place_pauses_and_says_why():
    step = next_step(state(share=0.0), {"v2": sight(ready=False, obstacle="needs 8 GPU")}, POLICY, NOON)
    assert (step.action, step.by) == ("pause", "capacity")
    assert "needs 8 GPU" in step.reason
    assert due(state(share=0.0, since=ago(seconds=299)), sight(ready=False)) is None


def test_a_step_that_shows_too_little_pauses():
    old = {"since": ago(minutes=61)}
    assert due(state(**old), sight(requests=3)) == ("pause", "v2", "inconclusive")
    assert due(state(share=0.5, **old), sight(quality=verdict("undecided"))) == ("pause", "v2", "inconclusive")
    assert due(state(**old), sight()) == ("canary", "v2", 0.25), "it had its chance and used it"


def test_more_pairs_than_planned_without_an_answer_are_not_waited_for():
    late, early = sight(quality=verdict("undecided", units=150)), sight(quality=verdict("undecided", units=149))
    assert due(state(share=0.5), late) == ("pause", "v2", "inconclusive")
    assert due(state(share=0.5), early) is None
    assert due(state(share=0.05), late) == ("canary", "v2", 0.25), "only the last step asks for it"


@pytest.mark.parametrize(
    ("quality", "share", "moves"), [("live", 0.0, True), ("live", 0.25, True), ("live", 0.5, False), ("off", 0.5, True),
                                    ("every", 0.0, False), ("every", 0.25, False)],
)  # fmt: skip
def test_where_the_comparison_is_asked_for(quality, share, moves):
    policy = POLICY.model_copy(update={"step": POLICY.step.model_copy(update={"quality": quality})})
    assert (due(state(share=share), sight(quality=None), policy) is not None) is moves
    unmeasured = verdict("no_worse", reasons=[Reason(name="missing", passed=None, text="not measured")])
    assert (due(state(share=share), sight(quality=unmeasured), policy) is not None) is moves


def test_one_canary_at_a_time_and_the_nearest_first():
    first = state(share=0.25, since=ago(minutes=1)).candidates[0]
    second = {"version": "v3", "share": 0.0}
    both = state(others=[first], **second)
    assert due(both, sight(), v3=sight(version="v3")) is None
    assert "the canary before it" in waits_for(both, both.candidates[0], sight(version="v3"), POLICY, NOON)[0]
    waiting = state(others=[first], **second, since=ago(hours=9))
    assert due(waiting, sight(), v3=sight(version="v3")) is None, "whoever waits its turn is not late"


def test_a_promoted_model_is_watched_and_then_stays():
    def live(minutes, **more):
        given = {"version": "v2", "since": ago(minutes=minutes), "previous": "v1", "promoted": True, **more}
        return RolloutState(flow="triage", n=9, live=Live(**given), candidates=[])

    assert due(live(5), sight(guards=BAD)) == ("rollback", "v2", None)
    assert due(live(5), sight(quality=verdict("worse"))) == ("rollback", "v2", None)
    assert due(live(31), sight(guards=BAD)) is None
    assert due(live(5, promoted=False), sight(guards=BAD)) is None
    assert due(live(5, previous=None), sight(guards=BAD)) is None


def test_nobody_is_promoted_over_a_model_in_its_watch():
    young = Live(version="v1", since=ago(minutes=29), previous="v0", promoted=True)
    assert due(state(share=0.5, live=young), sight()) is None
    assert due(state(share=0.25, live=young), sight()) == ("canary", "v2", 0.5)


def test_the_word_of_the_comparison():
    shadow, users = verdict("no_worse", "shadow"), verdict("undecided", "canary")
    assert quality_of([shadow, users], "v2", "v1") == shadow
    assert quality_of([users], "v2", "v1") == users
    assert quality_of([shadow, verdict("worse", "canary")], "v2", "v1").state == "worse"
    assert quality_of([shadow], "v2", "v9") is None


# where everybody stands, from routing objects and decisions

WHO = {"actor": "t", "reason": "r"}


def test_a_stage_began_with_its_share_or_its_pause_and_shadows_of_others_change_nothing():
    first = routing.bootstrap("triage", Variant(version="v1", folder="/1"), actor="t")
    mirrored = routing.with_shadow(first, Shadow(version="v2", folder="/2"), **WHO)
    canary = canaries.with_canary(mirrored, Canary(version="v2", folder="/2", share=0.05), **WHO)
    rolling = routing.next_state(canary, "t", "r", None, rollouts=[Enrolled(version="v2")])
    other = routing.with_shadow(rolling, Shadow(version="v3", folder="/3"), **WHO)
    past = {one.n: one for one in (first, mirrored, canary, rolling, other)}
    [two, three] = state_of(other, [], past.__getitem__).candidates
    assert (two.version, two.stage, two.share, two.since, two.enrolled) == ("v2", "canary", 0.05, rolling.ts, True)
    assert (three.version, three.stage, three.enrolled, three.since) == ("v3", "shadow", False, other.ts)
    held = routing.next_state(other, "t", "r", None, rollouts=[Enrolled(version="v2", paused="person")])
    [two, _] = state_of(held, [], {**past, held.n: held}.__getitem__).candidates
    assert (two.since, two.paused) == (held.ts, "person")
    live = routing.promoted(held, "v2", **WHO)
    assert live.rollouts == []
    now = state_of(live, [], {**past, held.n: held}.__getitem__)
    assert (now.live.promoted, now.live.previous, now.live.since) == (True, "v1", live.ts)
    back = routing.rolled_back(live, **WHO, decision_id="rollback-1")
    assert not state_of(back, [], {**past, held.n: held, live.n: live}.__getitem__).live.promoted


def test_stages_of_versions_without_a_role():
    def row(action, candidate, live="v1", verdict=None, n=1):
        return Decision(
            decision_id=f"{action}{candidate}{n}", flow="triage", ts=NOON, action=action, candidate=candidate,
            live=live, verdict=verdict, routing_n=n,
        )  # fmt: skip

    first = [row("bootstrap", "v1")]
    assert stage_of("v2", None, first) == "registered"
    judged = [*first, row("gate", "v2", verdict="promote")]
    assert stage_of("v2", None, judged) == "evaluated"
    assert stage_of("v2", None, [*first, row("gate", "v2", verdict="reject")]) == "rejected"
    live = [*judged, row("promote", "v2", live="v2", n=2)]
    assert stage_of("v1", None, live) == "retired"
    assert stage_of("v2", None, [*live, row("rollback", "v2", n=3)]) == "rolled_back"
    assert stage_of("v2", None, [*judged, row("uncanary", "v2")]) == "rolled_back"
    assert stage_of("v2", routing.bootstrap("triage", Variant(version="v2", folder="/"), actor="t"), []) == "live"
