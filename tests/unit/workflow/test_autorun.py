"""Look, take the lease, look again, run one turn."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from flywheel.config import FlywheelConfig, load
from flywheel.errors import UsageError
from flywheel.records import utcnow
from flywheel.workflow.cadence import autorun
from flywheel.workflow.turns.lease import only_one


@pytest.fixture
def ready(flow):
    """A flow whose first turn is due."""
    made = flow(**{"quality.min_examples": 5, "cadence.new_examples": 5})
    made.live()
    made.react(made.answers(6), "thumbs", 1)
    return made


def finishing(flow, ran, *, before=None):
    """Stands for a turn: takes a moment, then leaves what a finished turn leaves."""

    def run(lease, config, *, progress=None):
        if before is not None:
            before()
        lease.check()
        now = utcnow()
        turn = flow.turn("reject", saw_days_ago=0, ended_days_ago=0, at=now.isoformat())
        ran.append(turn.turn_id)
        return {"id": turn.turn_id, "decision": "reject"}

    return run


def waits(outcome):
    return [why.name for why in outcome.due.waiting]


def test_a_due_turn_runs_once_and_then_there_is_a_pause(ready, monkeypatch):
    ran = []
    monkeypatch.setattr(autorun, "run_turn_under", finishing(ready, ran))
    assert autorun.check(ready.config).due
    first = autorun.run_if_due(ready.config)
    assert first.turn == {"id": "turn-0001", "decision": "reject"}
    second = autorun.run_if_due(ready.config)
    assert (second.turn, ran) == (None, ["turn-0001"])
    assert waits(second)[0] == "pause"


def test_two_at_once_on_two_machines_do_one_turn(ready, tmp_path, monkeypatch):
    ran, both = [], threading.Barrier(2)
    monkeypatch.setattr(autorun, "run_turn_under", finishing(ready, ran))
    take = autorun.only_one

    def at_once(config, what):
        both.wait(10)  # both have found the turn to be due
        return take(config, what)

    monkeypatch.setattr(autorun, "only_one", at_once)
    other = load(FlywheelConfig, overrides={**overrides(ready), "home": str(tmp_path / "other")})
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(autorun.run_if_due, (ready.config, other)))
    assert ran == ["turn-0001"]
    assert sorted(outcome.turn is not None for outcome in outcomes) == [False, True]
    idle = next(outcome for outcome in outcomes if outcome.turn is None)
    assert not idle.due.due
    assert waits(idle)[0] in {"running", "pause"}  # met it, or came when it was just over


def overrides(flow):
    return {
        "lake.uri": flow.config.lake_uri(),
        "quality.min_examples": flow.config.quality.min_examples,
        "cadence.new_examples": flow.config.cadence.new_examples,
    }


def test_while_a_turn_runs_nobody_is_told_that_one_is_due(ready):
    with only_one(ready.config, "turn"):
        found = autorun.run_if_due(ready.config)
    assert found.turn is None
    assert found.due.waiting[0].name == "running"
    assert "process" in found.due.waiting[0].text


def test_a_turn_that_ended_elsewhere_between_the_two_looks_is_not_repeated(ready, monkeypatch):
    ran = []
    monkeypatch.setattr(autorun, "run_turn_under", finishing(ready, ran))
    take = autorun.only_one

    def overtaken(config, what):
        ready.turn("promote", saw_days_ago=0, ended_days_ago=0, at=(utcnow() - timedelta(seconds=1)).isoformat())
        return take(config, what)

    monkeypatch.setattr(autorun, "only_one", overtaken)
    outcome = autorun.run_if_due(ready.config)
    assert (outcome.turn, outcome.due.due, ran) == (None, False, [])


def test_an_error_of_the_turn_is_an_error_and_the_lease_is_free_again(ready, monkeypatch):
    def fails(lease, config, *, progress=None):
        raise UsageError("turn-0001 is unfinished and was started with another configuration")

    monkeypatch.setattr(autorun, "run_turn_under", fails)
    with pytest.raises(UsageError, match="another configuration"):
        autorun.run_if_due(ready.config)
    with only_one(ready.config, "turn"):
        pass
