"""The last step of a turn where candidates go live in steps: it hands over, once, and says what became of it."""

from types import SimpleNamespace

import pytest
from memory_lake import MemoryLake

import flywheel.rollout.promotion as promotion
from flywheel.config import FlywheelConfig
from flywheel.rollout import canary_steps, routing
from flywheel.rollout.machine import take
from flywheel.rollout.routing import Variant
from flywheel.telemetry import Silent
from flywheel.workflow.turns import verdict

DONE = {
    "snapshot": {"live": {"version": "v1", "folder": "/1"}, "base": "v1"},
    "register": {"version": "v2", "folder": "/2"},
    "gate": {"verdict": "promote", "text": "better"},
}


@pytest.fixture
def turn(monkeypatch):
    monkeypatch.setattr(promotion, "project_aliases", lambda _config, wanted: None)
    monkeypatch.setattr(verdict, "routed", lambda *_: {"v2"})
    lake = MemoryLake()

    def promote(steps, *, require_shadow=True):
        rollout = {"canary_steps": steps, "gate": {"require_shadow": require_shadow}}
        config = FlywheelConfig.model_validate({"rollout": rollout})
        context = SimpleNamespace(config=config, lake=lake, turn=SimpleNamespace(turn_id="t1"))
        return verdict.promote(context, DONE, Silent())

    config = FlywheelConfig()
    promotion.start(lake, config, Variant(version="v1", folder="/1"))
    promotion.shadow(lake, config, Variant(version="v2", folder="/2"))
    promotion.record_verdict(
        lake, config, turn_id="t1", candidate="v2", live="v1", verdict="promote", reasons=[], text="better"
    )
    return SimpleNamespace(promote=promote, lake=lake)


def test_without_steps_the_gate_s_word_makes_it_live_as_ever(turn):
    assert turn.promote([])["live"] == "v2"


@pytest.mark.parametrize("require_shadow", [True, False])
def test_a_turn_that_is_run_again_after_it_went_live_changes_nothing(turn, require_shadow):
    assert turn.promote([], require_shadow=require_shadow)["live"] == "v2"
    assert turn.promote([], require_shadow=require_shadow)["live"] == "v2"


@pytest.mark.parametrize("require_shadow", [True, False])
def test_the_gate_s_word_does_not_outlive_a_rollback(turn, require_shadow):
    """Published, then the turn died before it had noted so; a person rolled back; the turn is run again."""
    turn.promote([], require_shadow=require_shadow)
    promotion.rollback(turn.lake, FlywheelConfig(), reason="bad answers", actor="ann")
    artifact = turn.promote([], require_shadow=require_shadow)
    assert artifact["live"] == "v1"
    assert "no verdict to promote" in artifact["notes"][0]
    assert routing.current(turn.lake.store, "triage").shadows == []


def test_the_gate_s_word_holds_against_the_model_that_was_beaten_only(turn):
    config = FlywheelConfig()
    promotion.shadow(turn.lake, config, Variant(version="v3", folder="/3"))
    promotion.promote(turn.lake, config, "v3", reason="another turn")
    artifact = turn.promote([])
    assert artifact["live"] == "v3"
    assert "against the live model 'v3'" in artifact["notes"][0]


def test_a_model_that_learnt_from_somebody_erased_since_does_not_go_live(turn, monkeypatch):
    monkeypatch.setattr(canary_steps, "tainted_lineage", lambda *_: ["dataset/d1"])
    artifact = turn.promote([])
    assert artifact["live"] == "v1"
    assert "erased" in artifact["notes"][0]


def test_with_steps_it_is_handed_over_once(turn):
    artifact = turn.promote([0.05, 0.5])
    assert (artifact["live"], artifact["routing"]) == ("v1", 3)
    assert "5 %, 50 % of the users" in artifact["notes"][0]
    assert [one.version for one in routing.current(turn.lake.store, "triage").rollouts] == ["v2"]
    assert turn.promote([0.05, 0.5])["routing"] == 3, "a turn that was killed behind it does nothing again"


def test_a_turn_that_is_run_again_after_the_rollout_took_it_back_says_so(turn):
    config = FlywheelConfig.model_validate({"rollout": {"canary_steps": [0.05]}})
    turn.promote([0.05])
    take.approve(turn.lake, config, "v2", reason="r", actor="ann")
    take.back(turn.lake, config, "v2", reason="bad", actor="ann")
    artifact = turn.promote([0.05])
    assert artifact["live"] == "v1"
    assert "no verdict to promote" in artifact["notes"][0]
    assert routing.current(turn.lake.store, "triage").rollouts == []
