"""Which ranker serves: one object a state, one row of decisions each, nothing lost to a race or a kill."""

import pytest

from flywheel.errors import BusyError, UsageError
from flywheel.lake.tables import Lake
from flywheel.records import Decision, Reason
from flywheel.rollout import ranker_routing as truth
from flywheel.rollout import ranker_steps
from flywheel.rollout.ranker_routing import RankerVariant
from flywheel.testing import MemoryStore

ONE, TWO = RankerVariant(version="feed-r0001", content="c1"), RankerVariant(version="feed-r0002", content="c2")
WHY = {"actor": "ann", "reason": "test"}


def shadowed(now, variant):
    return truth.with_shadow(now, "feed", variant, **WHY)


def promoted(now, variant, reasons=()):
    return truth.promoted(now, "feed", variant.version, reasons=list(reasons), **WHY)


def test_a_ranker_is_in_the_shadow_then_live_and_back_to_what_was_before():
    state = shadowed(None, ONE)
    assert (state.n, state.live, state.shadows) == (1, None, [ONE])
    assert shadowed(state, ONE) is None
    state = promoted(state, ONE)
    assert (state.live, state.shadows, state.previous) == (ONE, [], None)
    assert promoted(state, ONE) is None
    assert shadowed(state, ONE) is None, "what serves needs no shadow"
    second = promoted(shadowed(state, TWO), TWO)
    assert (second.n, second.live, second.previous) == (4, TWO, ONE)
    back = truth.rolled_back(second, "feed", **WHY)
    assert (back.live, back.previous, back.concerns) == (ONE, TWO, TWO.version)
    with pytest.raises(UsageError, match="nothing to go back from"):
        truth.rolled_back(back, "feed", **WHY)
    first = truth.rolled_back(state, "feed", **WHY)
    assert first.live is None, "the product's own scores"


def test_nothing_serves_that_nobody_saw():
    with pytest.raises(UsageError, match="flywheel ranker shadow feed-r0002"):
        promoted(shadowed(None, ONE), TWO)
    with pytest.raises(UsageError):
        promoted(None, ONE)
    assert truth.without_shadows(None, "feed", **WHY) is None
    assert truth.without_shadows(shadowed(None, ONE), "feed", **WHY).shadows == []


def test_a_poll_costs_one_look_and_numbers_are_never_written_twice():
    store = MemoryStore()
    assert truth.newer(store, "feed", 0) is None
    first = shadowed(None, ONE)
    truth.publish(store, first)
    assert truth.newer(store, "feed", 0) == first
    assert truth.newer(store, "feed", 1) is None
    with pytest.raises(BusyError):
        truth.publish(store, shadowed(None, TWO))
    assert truth.current(store, "feed") == first
    assert truth.current(store, "fee") is None


def test_every_state_has_one_decision_also_after_a_kill(tmp_path, monkeypatch):
    lake = Lake(str(tmp_path))
    ranker_steps.apply(lake, "feed", lambda now: shadowed(now, ONE))
    with monkeypatch.context() as killed:
        killed.setattr(ranker_steps, "project", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            ranker_steps.apply(
                lake, "feed", lambda now: promoted(now, ONE, [Reason(name="gain", passed=True, text="g")])
            )
    assert truth.current(lake.store, "feed").live == ONE, "in force from the moment it is published"
    state, changed = ranker_steps.apply(lake, "feed", lambda now: promoted(now, ONE))
    assert (state.n, changed) == (2, False)
    rows = sorted(lake.records("decisions", Decision, flow="feed"), key=lambda row: row.ts)
    assert [(row.action, row.candidate, row.live, row.verdict) for row in rows] == [
        ("ranker_shadow", "feed-r0001", None, None),
        ("ranker_promote", "feed-r0001", "feed-r0001", "promote"),
    ]
    assert [reason.name for reason in rows[1].reasons] == ["gain"]


def test_a_promotion_does_not_undo_the_rollback_that_overtook_it(tmp_path):
    lake = Lake(str(tmp_path))
    for variant in (ONE, TWO):
        ranker_steps.apply(lake, "feed", lambda now, own=variant: shadowed(now, own))
        if variant is ONE:
            ranker_steps.apply(lake, "feed", lambda now: promoted(now, ONE))
    overtaken = []

    def step(now):
        if not overtaken:
            overtaken.append(truth.publish(lake.store, truth.rolled_back(now, "feed", **WHY)))
        return promoted(now, TWO)

    with pytest.raises(BusyError):
        ranker_steps.apply(lake, "feed", step)
    assert truth.current(lake.store, "feed").live is None


def test_a_shadow_that_was_changed_by_somebody_else_is_decided_again(tmp_path):
    lake, others = Lake(str(tmp_path)), []

    def step(now):
        if not others:
            others.append(truth.publish(lake.store, shadowed(now, ONE)))
        return shadowed(now, TWO)

    state, changed = ranker_steps.apply(lake, "feed", step)
    assert (state.n, changed, state.shadows) == (2, True, [TWO])
