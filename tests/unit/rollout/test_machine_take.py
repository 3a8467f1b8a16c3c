"""Transitions on a lake: one routing object and one decision each, once, and only on the state they were decided on."""

import pytest
from memory_lake import Crash, MemoryLake

import flywheel.rollout.promotion as promotion
from flywheel.config import FlywheelConfig
from flywheel.errors import UsageError
from flywheel.records import Reason
from flywheel.rollout import canary_steps
from flywheel.rollout import routing as truth
from flywheel.rollout.machine import take
from flywheel.rollout.machine.picture import share_svg
from flywheel.rollout.machine.sight import Step
from flywheel.rollout.machine.story import story
from flywheel.rollout.routing import Routing, Variant

CONFIG = FlywheelConfig.model_validate({"rollout": {"canary_steps": [0.05, 0.5]}})
ONE, TWO = (Variant(version=f"v{n}", folder=f"/models/v{n}") for n in (1, 2))
WHO = {"reason": "because", "actor": "ann"}


@pytest.fixture
def lake(monkeypatch):
    monkeypatch.setattr(promotion, "project_aliases", lambda _config, wanted: None)
    made = MemoryLake()
    promotion.start(made, CONFIG, ONE)
    verdict(made)
    return made


def verdict(lake, said="promote", turn="t1"):
    promotion.record_verdict(lake, CONFIG, turn_id=turn, candidate="v2", live="v1", verdict=said, reasons=[], text=said)


def now(lake):
    return truth.current(lake.store, "triage")


def step(lake, action, **more):
    reasons = [Reason(name="error", passed=True, text="errors 0 %")]
    return Step(action=action, version="v2", n=now(lake).n, reason="all well", reasons=reasons, **more)


def ledger(lake):
    rows = [row for row in lake.records("decisions", None) if row.action != "gate"]
    return [(row.action, row.candidate, row.actor) for row in sorted(rows, key=lambda row: row.routing_n)]


def test_from_the_gate_to_live_each_transition_is_one_object_and_one_decision(lake):
    take.begin(lake, CONFIG, TWO, reason="gate: promote")
    assert [(one.version, one.paused) for one in now(lake).rollouts] == [("v2", None)]
    assert not take.begin(lake, CONFIG, TWO, reason="gate: promote").changed
    take.take(lake, CONFIG, step(lake, "canary", share=0.05))
    take.take(lake, CONFIG, step(lake, "pause", by="missing"))
    take.take(lake, CONFIG, step(lake, "resume"))
    take.pause(lake, CONFIG, "v2", **WHO)
    take.resume(lake, CONFIG, "v2", **WHO)
    assert take.approve(lake, CONFIG, "v2", **WHO).routing.canaries[0].share == 0.5
    done = take.take(lake, CONFIG, step(lake, "promote"))
    assert (done.routing.live.version, done.routing.previous, done.routing.rollouts) == ("v2", ONE, [])
    assert ledger(lake) == [
        ("bootstrap", "v1", "flywheel"), ("shadow", "v2", "flywheel"), ("canary", "v2", "rollout"),
        ("pause", "v2", "rollout"), ("resume", "v2", "rollout"), ("pause", "v2", "ann"), ("resume", "v2", "ann"),
        ("canary", "v2", "ann"), ("promote", "v2", "rollout"),
    ]  # fmt: skip
    assert not take.begin(lake, CONFIG, TWO, reason="the turn again").changed, "it is live"


def test_a_shadow_that_is_handed_over_is_a_decision_of_its_own(lake):
    promotion.shadow(lake, CONFIG, TWO)
    take.begin(lake, CONFIG, TWO, reason="gate: promote", actor="ann")
    assert ledger(lake)[-1] == ("rollout", "v2", "ann")


def test_one_that_is_rejected_while_it_is_handed_over_does_not_begin(lake):
    promotion.shadow(lake, CONFIG, TWO)

    def rejected():
        truth.publish(lake.store, truth.without_shadow(now(lake), "v2", actor="rollout", reason="worse"))

    lake.store.fate.meets_at(1, rejected)
    with pytest.raises(UsageError, match="no verdict"):
        take.begin(lake, CONFIG, TWO, reason="gate: promote")
    assert now(lake).variants() == [ONE]


def test_a_step_that_was_overtaken_does_not_happen(lake):
    take.begin(lake, CONFIG, TWO, reason="r")
    decided = step(lake, "canary", share=0.05)
    take.pause(lake, CONFIG, "v2", **WHO)
    assert not take.take(lake, CONFIG, decided).changed
    assert now(lake).canaries == []
    grown = step(lake, "canary", share=0.05)
    lake.store.fate.meets_at(2, lambda: take.resume(lake, CONFIG, "v2", **WHO))
    assert not take.take(lake, CONFIG, grown).changed, "overtaken between the numbers and the routing"
    assert now(lake).canaries == []


def test_a_rollback_happens_although_somebody_was_faster(lake):
    take.begin(lake, CONFIG, TWO, reason="r")
    take.approve(lake, CONFIG, "v2", **WHO)
    back = step(lake, "uncanary")
    take.pause(lake, CONFIG, "v2", **WHO)
    assert take.take(lake, CONFIG, back).changed
    assert now(lake).canaries == []
    with pytest.raises(UsageError, match="no verdict"):
        take.begin(lake, CONFIG, TWO, reason="once more")


@pytest.mark.parametrize("said", ["reject", "continue", "inconclusive"])
def test_nobody_goes_on_without_the_gate(lake, said):
    take.begin(lake, CONFIG, TWO, reason="r")
    take.approve(lake, CONFIG, "v2", **WHO)
    verdict(lake, said, "t2")
    with pytest.raises(UsageError, match="no verdict"):
        take.approve(lake, CONFIG, "v2", **WHO)
    with pytest.raises(UsageError, match="no verdict"):
        take.take(lake, CONFIG, step(lake, "promote"))
    assert now(lake).live == ONE


def test_an_override_reaches_users_and_never_live(lake):
    verdict(lake, "reject", "t2")
    promotion.shadow(lake, CONFIG, TWO)
    canary_steps.start(lake, CONFIG, "v2", 0.5, reason="I know", override=True)
    with pytest.raises(UsageError, match="no verdict"):
        take.begin(lake, CONFIG, TWO, reason="r")
    with pytest.raises(UsageError, match="in no rollout"):
        take.approve(lake, CONFIG, "v2", **WHO)


def test_people_say_why_and_name_what_is_there(lake):
    for act in (take.pause, take.resume, take.approve, take.back):
        with pytest.raises(UsageError, match="--reason"):
            act(lake, CONFIG, "v2", reason=" ", actor="ann")
    with pytest.raises(UsageError, match="rollouts: none"):
        take.pause(lake, CONFIG, "v2", **WHO)
    with pytest.raises(UsageError, match="canary_steps is empty"):
        take.begin(lake, FlywheelConfig(), TWO, reason="r")
    with pytest.raises(UsageError, match="'v9' has no role"):
        take.back(lake, CONFIG, "v9", **WHO)


def test_back_by_hand_from_every_role(lake):
    take.begin(lake, CONFIG, TWO, reason="r")
    assert take.back(lake, CONFIG, "v2", **WHO).routing.shadows == []
    take.begin(lake, CONFIG, TWO, reason="r")
    take.approve(lake, CONFIG, "v2", **WHO)
    take.approve(lake, CONFIG, "v2", **WHO)
    take.approve(lake, CONFIG, "v2", **WHO)
    assert now(lake).live.version == "v2"
    assert take.back(lake, CONFIG, "v2", **WHO).routing.live == ONE
    assert ledger(lake)[-1] == ("rollback", "v2", "ann")


def test_what_the_shadow_showed_ends_the_verdict(lake):
    take.begin(lake, CONFIG, TWO, reason="r")
    take.take(lake, CONFIG, step(lake, "unshadow"))
    with pytest.raises(UsageError, match="no verdict"):
        take.begin(lake, CONFIG, TWO, reason="once more")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_killed_anywhere_it_is_before_or_after_and_the_ledger_follows(lake, k, after):
    take.begin(lake, CONFIG, TWO, reason="r")
    decided = step(lake, "canary", share=0.05)
    lake.store.fate.dies_at(k, after=after)
    with pytest.raises(Crash):
        take.take(lake, CONFIG, decided)
    done = (k, after) >= (2, True)
    assert bool(now(lake).canaries) is done
    assert take.take(lake, CONFIG, decided).changed is not done
    assert ledger(lake) == [
        ("bootstrap", "v1", "flywheel"), ("shadow", "v2", "flywheel"), ("canary", "v2", "rollout"),
    ]  # fmt: skip
    assert take.grounds(lake, "triage", now(lake).decision_id).reasons[0].text == "errors 0 %"


def test_a_routing_without_rollouts_is_written_as_it_always_was(lake):
    assert b"rollouts" not in lake.store.objects["routing/triage/1.json"]
    take.begin(lake, CONFIG, TWO, reason="r")
    assert Routing.model_validate_json(lake.store.objects["routing/triage/2.json"]).rollouts[0].version == "v2"


def test_the_story_and_its_picture(lake):
    take.begin(lake, CONFIG, TWO, reason="gate: <promote>")
    take.take(lake, CONFIG, step(lake, "canary", share=0.05))
    take.pause(lake, CONFIG, "v2", reason="holiday", actor="<ann>")
    take.take(lake, CONFIG, step(lake, "uncanary"))
    told = story(lake, "triage")
    assert [moment.action for moment in told] == ["bootstrap", "shadow", "canary", "pause", "uncanary"]
    assert told[2].shares == {"v1": 0.95, "v2": 0.05}
    assert (told[2].numbers, told[2].automatic, told[3].automatic) == (["errors 0 %"], True, False)
    assert told[3].paused == {"v2": "person"}
    assert [moment.n for moment in story(lake, "triage", about="v2")] == [1, 2, 3, 4, 5]
    assert [moment.n for moment in story(lake, "triage", most=2)] == [4, 5]
    assert story(MemoryLake(), "triage") == []
    drawn = share_svg(told, told[-1].ts)
    assert drawn.count("<rect") == 2 + 7, "a box of the legend for each version, a bar for each share"
    assert "<ann>" not in drawn
    assert "by &lt;ann&gt;: holiday" in drawn
    assert "no model" in share_svg([], told[-1].ts)
