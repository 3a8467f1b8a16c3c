"""A turn whose gate asks for live quality waits for the verdict, keeps it, and shows it to the gate."""

from types import SimpleNamespace

import pytest

from flywheel.config import FlywheelConfig
from flywheel.records import Reason
from flywheel.rollout.live.result import LiveVerdict
from flywheel.rollout.shadow import summarise
from flywheel.telemetry import Silent
from flywheel.workflow.live import watching
from flywheel.workflow.turns import quality
from flywheel.workflow.turns import verdict as last_steps

DONE = {
    "snapshot": {"live": {"version": "v1", "folder": "/v1"}, "base": "v1"},
    "register": {"version": "v2", "folder": "/v2"},
}


def found(state, source="shadow") -> LiveVerdict:
    return LiveVerdict(
        flow="triage", candidate="v2", live="v1", source=source, pairs=9, units=9, missing=0, mean=0.0, low=-0.5,
        high=0.5, planned_units=900, state=state,
        reasons=[Reason(name="quality", passed=None, outcome="missing", text="Nothing knows meaning.")],
    )  # fmt: skip


class FakeWatch:
    def __init__(self, *updates):
        self.updates = list(updates)

    def update(self):
        return self.updates.pop(0) if len(self.updates) > 1 else self.updates[0]


def context(*, asked: bool, wait_s=0.0):
    gate = {"require_live_quality": asked, "min_shadow_pairs": 0}
    config = FlywheelConfig.model_validate({"flow": "triage", "rollout": {"gate": gate, "shadow_wait_s": wait_s}})
    return SimpleNamespace(config=config, lake=None)


@pytest.fixture
def shadowing(monkeypatch):
    """The shadow's step with nothing around it."""
    monkeypatch.setattr(last_steps, "decide", lambda *_: SimpleNamespace(verdict="continue"))
    monkeypatch.setattr(last_steps, "_gate_input", lambda *_, **__: None)
    monkeypatch.setattr(last_steps.promotion, "shadow", lambda *_: None)
    monkeypatch.setattr(last_steps, "_summary", lambda *_: summarise([], candidate="v2"))
    monkeypatch.setattr(quality, "POLL_S", 0.0)

    def watching_(*updates):
        watch = FakeWatch(*updates)
        monkeypatch.setattr(watching, "open_watch", lambda *_: watch)

    return watching_


def test_nobody_looks_where_nobody_asks(monkeypatch, shadowing):
    monkeypatch.setattr(watching, "open_watch", lambda *_: pytest.fail("looked"))
    made = last_steps.shadow(context(asked=False), DONE, Silent())
    assert set(made) == {"summary"}
    assert quality.stored(made) is None


def test_the_turn_waits_while_it_is_undecided(shadowing):
    shadowing([found("undecided")])
    made = last_steps.shadow(context(asked=True), DONE, Silent())
    assert "flywheel turn" in made["wait"]
    assert "Nothing knows meaning." in made["wait"]
    assert quality.stored(made).state == "undecided"


def test_the_verdict_that_came_in_time_is_kept_for_the_gate(shadowing):
    shadowing([found("undecided")], [found("undecided")], [found("worse", "canary"), found("no_worse")])
    made = last_steps.shadow(context(asked=True, wait_s=30), DONE, Silent())
    assert "wait" not in made
    assert quality.stored(made) == found("no_worse")


def test_a_candidate_that_is_not_compared_has_no_verdict(shadowing):
    shadowing([])
    made = last_steps.shadow(context(asked=True), DONE, Silent())
    assert quality.stored(made) is None
