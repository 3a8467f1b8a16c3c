"""Starting, growing and stopping canaries: the gate says no by default, and every step is one decision."""

from types import SimpleNamespace

import pytest
from memory_lake import MemoryLake

import flywheel.rollout.promotion as promotion
from flywheel.config import FlywheelConfig
from flywheel.errors import UsageError
from flywheel.lake.tables import Lake
from flywheel.records import Decision
from flywheel.rollout import canaries, canary_steps
from flywheel.rollout import routing as truth
from flywheel.rollout.routing import Variant

CONFIG = FlywheelConfig()
ONE, TWO, THREE = (Variant(version=f"v{n}", folder=f"/models/v{n}") for n in (1, 2, 3))
WHY = {"reason": "try it"}


@pytest.fixture
def aliases(monkeypatch):
    shown = {}
    monkeypatch.setattr(promotion, "project_aliases", lambda _config, wanted: shown.update(wanted))
    return shown


@pytest.fixture
def lake(tmp_path, aliases):
    lake = Lake(str(tmp_path / "lake"))
    promotion.start(lake, CONFIG, ONE)
    promotion.shadow(lake, CONFIG, TWO)
    return lake


def verdict(lake, candidate="v2", live="v1", said="promote", turn="t1"):
    promotion.record_verdict(
        lake, CONFIG, turn_id=turn, candidate=candidate, live=live, verdict=said, reasons=[], text=said
    )


def shares(lake):
    return {canary.version: canary.share for canary in truth.current(lake.store, "triage").canaries}


def ledger(lake):
    rows = sorted(lake.records("decisions", Decision, flow="triage"), key=lambda row: row.routing_n or 0)
    return [(row.action, row.candidate, row.text) for row in rows if row.action != "gate"]


def test_the_gate_s_yes_lets_it_start_and_grow_and_each_step_is_a_decision(lake, aliases):
    verdict(lake)
    assert canary_steps.start(lake, CONFIG, "v2", 0.05, **WHY).changed
    assert aliases == {"live": "v1", "candidate": "v2"}
    assert not canary_steps.start(lake, CONFIG, "v2", 0.05, **WHY).changed
    canary_steps.start(lake, CONFIG, "v2", 0.25, reason="more", actor="ann")
    assert shares(lake) == {"v2": 0.25}
    assert truth.current(lake.store, "triage").shadows == []
    promotion.promote(lake, CONFIG, "v2", reason="all")
    assert [row[:2] for row in ledger(lake)] == [
        ("bootstrap", "v1"), ("shadow", "v2"), ("canary", "v2"), ("canary", "v2"), ("promote", "v2"),
    ]  # fmt: skip
    assert promotion.rollback(lake, CONFIG).routing.live == ONE


@pytest.mark.parametrize("said", [None, "reject", "continue", "inconclusive"])
def test_without_it_a_canary_starts_by_override_only_and_the_ledger_shows_that(lake, said):
    if said:
        verdict(lake, said="promote", turn="t0")
        verdict(lake, said=said)
    with pytest.raises(UsageError, match=r"has no verdict to promote.*--override"):
        canary_steps.start(lake, CONFIG, "v2", 0.05, **WHY)
    assert shares(lake) == {}
    canary_steps.start(lake, CONFIG, "v2", 0.05, override=True, **WHY)
    assert ledger(lake)[-1] == ("canary", "v2", "without a passed gate: try it")
    with pytest.raises(UsageError, match="--override"):
        canary_steps.start(lake, CONFIG, "v2", 0.5, **WHY)
    assert canary_steps.start(lake, CONFIG, "v2", 0.01, **WHY).changed, "fewer users need no permission"
    assert ledger(lake)[-1] == ("canary", "v2", "try it")


def test_an_override_is_for_models_in_the_shadow(lake):
    with pytest.raises(UsageError, match="mirror traffic to it first"):
        canary_steps.start(lake, CONFIG, "v3", 0.05, override=True, **WHY)


def test_a_verdict_against_another_live_model_does_not_count(lake):
    verdict(lake, live="v0")
    with pytest.raises(UsageError, match="no verdict"):
        canary_steps.start(lake, CONFIG, "v2", 0.05, **WHY)


def test_a_model_that_was_taken_back_needs_a_new_verdict(lake):
    verdict(lake)
    canary_steps.start(lake, CONFIG, "v2", 0.05, **WHY)
    assert canary_steps.stop(lake, CONFIG, "v2", reason="slow").changed
    assert not canary_steps.stop(lake, CONFIG, "v2", reason="slow").changed
    assert ledger(lake)[-1] == ("uncanary", "v2", "slow")
    promotion.shadow(lake, CONFIG, TWO)
    with pytest.raises(UsageError, match="no verdict"):
        canary_steps.start(lake, CONFIG, "v2", 0.05, **WHY)
    verdict(lake, turn="t2")
    promotion.promote(lake, CONFIG, "v2", reason="r")
    promotion.rollback(lake, CONFIG, reason="complaints")
    promotion.shadow(lake, CONFIG, TWO)
    with pytest.raises(UsageError, match="no verdict"):
        canary_steps.start(lake, CONFIG, "v2", 0.05, **WHY)


def test_one_that_is_taken_back_while_somebody_lets_it_grow_does_not_start_again(aliases, monkeypatch):
    """Its taking back is in force, and the decision is not in the ledger yet."""
    lake = MemoryLake()
    promotion.start(lake, CONFIG, ONE)
    promotion.shadow(lake, CONFIG, TWO)
    verdict(lake)
    canary_steps.start(lake, CONFIG, "v2", 0.05, **WHY)

    def taken_back():
        state = truth.current(lake.store, "triage")
        truth.publish(lake.store, canaries.without_canary(state, "v2", actor="rollout", reason="errors"))

    monkeypatch.setattr(canary_steps, "resolve", lambda *_: SimpleNamespace(folder=TWO.folder))
    lake.store.fate.meets_at(1, taken_back)
    with pytest.raises(UsageError, match="no verdict"):
        canary_steps.start(lake, CONFIG, "v2", 0.25, **WHY)
    assert shares(lake) == {}


def test_a_model_that_learnt_from_an_erased_person_never_starts(lake, monkeypatch):
    verdict(lake)
    monkeypatch.setattr(canary_steps, "tainted_lineage", lambda *_: ["dataset/d"])
    with pytest.raises(UsageError, match="erased since"):
        canary_steps.start(lake, CONFIG, "v2", 0.05, override=True, **WHY)
    monkeypatch.setattr(canary_steps, "tainted_lineage", lambda *_: None)
    with pytest.raises(UsageError, match="cannot name all"):
        canary_steps.start(lake, CONFIG, "v2", 0.05, **WHY)


def test_a_rollback_that_names_a_canary_stops_it_and_leaves_the_live_model(lake):
    verdict(lake)
    promotion.promote(lake, CONFIG, "v2", reason="r")
    promotion.shadow(lake, CONFIG, THREE)
    canary_steps.start(lake, CONFIG, "v3", 0.1, override=True, **WHY)
    assert not promotion.shadow(lake, CONFIG, THREE).changed, "a canary is no shadow again by a repeated step"
    done = promotion.rollback(lake, CONFIG, bad="v3", reason="errors")
    assert (done.changed, done.routing.live.version, done.routing.canaries) == (True, "v2", [])
    assert ledger(lake)[-1] == ("uncanary", "v3", "errors")
    promotion.shadow(lake, CONFIG, THREE)
    canary_steps.start(lake, CONFIG, "v3", 0.1, override=True, **WHY)
    back = promotion.rollback(lake, CONFIG, reason="fire").routing
    assert (back.live.version, back.canaries) == ("v1", [])


def test_projections_of_canaries_are_rebuilt_after_a_kill(lake, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(promotion, "project", lambda *_: [])
        patched.setattr(canary_steps, "project", lambda *_: [])
        canary_steps.start(lake, CONFIG, "v2", 0.05, override=True, **WHY)
        canary_steps.stop(lake, CONFIG, "v2", reason="slow")
    promotion.project(lake, CONFIG)
    assert [row[0] for row in ledger(lake)] == ["bootstrap", "shadow", "canary", "uncanary"]


@pytest.mark.parametrize("share", [0, 1, -0.5, 2, 1e-9, 0.1234567])
def test_a_share_that_is_none_is_refused_with_what_is(lake, share):
    with pytest.raises(UsageError, match="between 0 and 1, in steps"):
        canary_steps.start(lake, CONFIG, "v2", share, override=True, **WHY)


def test_a_reason_is_needed(lake):
    with pytest.raises(UsageError, match="Say why"):
        canary_steps.start(lake, CONFIG, "v2", 0.1, reason=" ")
    with pytest.raises(UsageError, match="Say why"):
        canary_steps.stop(lake, CONFIG, "v2", reason="")
