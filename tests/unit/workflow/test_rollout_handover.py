"""The last step of a turn where candidates go live in steps: it hands over, once, and says what became of it."""

from types import SimpleNamespace

import pytest
from memory_lake import MemoryLake

import flywheel.rollout.promotion as promotion
from flywheel.config import FlywheelConfig
from flywheel.rollout import routing
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
    lake = MemoryLake()

    def promote(steps):
        config = FlywheelConfig.model_validate({"rollout": {"canary_steps": steps}})
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
