"""Turns that wait: for a person they are not due again and again, and abandoned ones leave nothing in the shadow."""

from datetime import timedelta

import pytest

from flywheel.config import FlywheelConfig
from flywheel.records import Reason, utcnow
from flywheel.rollout import history, promotion, routing
from flywheel.rollout.routing import Variant
from flywheel.workflow.cadence.cadence import due
from flywheel.workflow.cadence.facts import gather
from flywheel.workflow.turns import turn as turns
from flywheel.workflow.turns.steps import open_turn
from flywheel.workflow.turns.turn import step_key

EVIDENCE = ["eval-1", "eval-2", "cases-1"]


def waiting(*names):
    held = Reason(name="primary_gain", passed=True, outcome="pass", text="It is better.")
    return [held, *(Reason(name=name, passed=False, outcome="wait", text=f"{name} is due.") for name in names)]


@pytest.fixture
def judged(flow):
    """A turn whose candidate has a verdict that waits for what is named."""

    def make(*names):
        made = flow()
        made.live("v1")
        turn = open_turn(made.lake.store, made.config)
        promotion.record_verdict(
            made.lake, made.config, turn_id=turn.turn_id, candidate="v2", live="v1", verdict="continue",
            reasons=waiting(*names), text="waits", evidence=EVIDENCE,
        )  # fmt: skip
        return made

    return make


def now_due(flow):
    return due(gather(flow.lake, flow.config, running=None), flow.config.cadence, utcnow() + timedelta(hours=1))


def approve(flow, evidence):
    history.record_approval(
        flow.lake, flow.config, turn_id="turn-0001", candidate="v2", live="v1", evidence=evidence, reason="ok",
        actor="ann",
    )  # fmt: skip


def test_a_turn_that_waits_for_approval_is_due_when_it_is_given(judged):
    flow = judged("approval")
    found = now_due(flow)
    assert (found.due, [why.name for why in found.waiting]) == (False, ["waits for a person"])
    assert "turn-0001: approval is due." in found.waiting[0].text
    approve(flow, ["other results"])
    assert not now_due(flow).due
    approve(flow, EVIDENCE)
    assert now_due(flow).due


@pytest.mark.parametrize("names", [("approval", "primary_gain"), ("shadow_pairs",)])
def test_a_turn_that_traffic_can_help_is_due_again(judged, names):
    assert now_due(judged(*names)).due


def test_the_candidate_of_an_abandoned_turn_leaves_the_shadow(flow, monkeypatch):
    flow = flow()
    flow.live("v1")
    turn = open_turn(flow.lake.store, flow.config)
    turn.write(step_key("register"), {"version": "v2", "folder": "/m/v2"})
    monkeypatch.setattr(promotion, "project_aliases", lambda *args: None)
    promotion.shadow(flow.lake, flow.config, Variant(version="v2", folder="/m/v2"))
    stopped = KeyError("far enough")

    def stop(*_args, **_settings):
        raise stopped

    monkeypatch.setattr(turns, "Keyring", stop)
    monkeypatch.setattr(turns.prepare, "check_ready", lambda *args: None)
    with pytest.raises(KeyError):
        turns.run_turn(flow.config, new=True)
    assert routing.current(flow.lake.store, FlywheelConfig().flow).shadows == []
    assert turn.read("finished")["abandoned"]
