from datetime import timedelta

import pytest

from flywheel.config import FlywheelConfig
from flywheel.gateway.reconcile import Controller, Memory, grace_s, plan
from flywheel.rollout import routing
from flywheel.rollout.routing import Shadow, Variant
from flywheel.testing import MemoryStore

WHO = {"actor": "t", "reason": "r"}
V1 = routing.bootstrap("triage", Variant(version="v1", folder="/v1"), actor="t")
BOTH = routing.with_shadow(V1, Shadow(version="v2", folder="/v2"), **WHO)
V2 = routing.promoted(BOTH, "v2", **WHO)


def looked(*states, at=0.0):
    memory = Memory()
    for state in states:
        memory.note(state, at)
    return memory


def names(variants):
    return [variant.version for variant in variants]


def test_missing_and_failed_engines_are_started():
    assert names(plan(BOTH, {}, looked(BOTH), 0, 60).start) == ["v1", "v2"]
    assert names(plan(BOTH, {"v1": "RUNNING", "v2": "DEPLOY_FAILED"}, looked(BOTH), 0, 60).start) == ["v2"]
    assert plan(BOTH, {"v1": "RUNNING", "v2": "DEPLOYING"}, looked(BOTH), 0, 60).start == []


def test_a_failing_start_is_tried_again_ever_later():
    memory = looked(V1)
    memory.tried("v1", 0.0)
    assert plan(V1, {}, memory, 5, 60).start == []
    assert names(plan(V1, {}, memory, 11, 60).start) == ["v1"]
    memory.tried("v1", 11)
    assert plan(V1, {}, memory, 25, 60).start == []


def test_an_engine_stops_only_after_the_grace_period():
    memory = looked(BOTH, at=0.0)
    memory.note(V2, 100.0)
    running = {"v1": "RUNNING", "v2": "RUNNING"}
    assert plan(V2, running, memory, 50, 60).stop == []
    assert plan(V2, running, memory, 61, 60).stop == ["v1"]
    assert plan(V2, {**running, "v1": "DELETING"}, memory, 61, 60).stop == []


def test_nothing_stops_while_the_routing_is_not_served():
    memory = looked(BOTH)
    memory.note(V2, 0)
    assert plan(V2, {"v1": "RUNNING", "v2": "DEPLOYING"}, memory, 10_000, 60).stop == []


@pytest.mark.parametrize("candidate", ["DEPLOYING", "DEPLOY_FAILED", "NOT_STARTED"])
def test_a_candidate_without_a_place_does_not_keep_the_leftover_that_holds_it(candidate):
    memory = looked(BOTH, V2)
    third = routing.with_shadow(V2, Shadow(version="v3", folder="/v3"), **WHO)
    memory.note(third, 100)
    assert plan(third, {"v1": "RUNNING", "v2": "RUNNING", "v3": candidate}, memory, 10_000, 60).stop == ["v1"]


def test_the_model_before_stays_up_while_its_successor_is_watched(monkeypatch):
    store, stopped = MemoryStore(), []
    for one in (V1, BOTH, V2):
        routing.publish(store, one)
    steps = FlywheelConfig.model_validate({"rollout": {"canary_steps": [0.5], "step": {"watch_minutes": 30}}})

    def after(minutes, config):
        monkeypatch.setattr("flywheel.gateway.reconcile.utcnow", lambda: V2.ts + timedelta(minutes=minutes))
        monkeypatch.setattr("flywheel.gateway.reconcile.grace_s", lambda _: -1.0)
        running = {"engine-v1": "RUNNING", "engine-v2": "RUNNING"}
        made = Controller(
            store, config, statuses=lambda: running, start=print, stop=lambda version: not stopped.append(version)
        )
        made.memory.last_named["v1"] = -1e9
        stopped.clear()
        made.cycle()
        return list(stopped)

    assert after(29, steps) == []
    assert after(31, steps) == ["v1"]
    assert after(29, FlywheelConfig()) == ["v1"]


def test_an_engine_that_never_was_routed_is_left_alone():
    assert plan(V1, {"v1": "RUNNING", "candidate": "RUNNING"}, looked(V1), 10_000, 60).stop == []


def test_a_leftover_found_after_a_restart_gets_a_whole_grace_period():
    memory = Memory(routed={"v1", "v2"})
    memory.note(V2, 1000.0)
    running = {"v1": "RUNNING", "v2": "RUNNING"}
    assert plan(V2, running, memory, 1000, 60).stop == []
    assert plan(V2, running, memory, 1059, 60).stop == []
    assert plan(V2, running, memory, 1061, 60).stop == ["v1"]


def test_the_grace_period_outlasts_polls_and_requests():
    config = FlywheelConfig()
    assert grace_s(config) > 2 * config.gateway.routing_poll_s + config.engine.request_timeout_s


@pytest.fixture
def world():
    store, started, stopped, statuses = MemoryStore(), [], [], {}

    def start(variant):
        started.append(variant.version)
        if variant.version == "bad":
            raise ValueError("no tokenizer")
        statuses[f"engine-{variant.version}"] = "RUNNING"

    controller = Controller(
        store,
        FlywheelConfig(),
        statuses=lambda: dict(statuses),
        start=start,
        stop=lambda version: not stopped.append(version),
    )
    return store, controller, started, stopped, statuses


def test_the_controller_starts_what_the_truth_names_and_one_bad_model_harms_no_other(world):
    store, controller, started, stopped, _ = world
    controller.cycle()
    assert started == []
    routing.publish(store, V1)
    routing.publish(store, routing.with_shadow(V1, Shadow(version="bad", folder="/b"), **WHO))
    controller.cycle()
    controller.cycle()
    assert started == ["v1", "bad"]
    assert controller.state()["errors"] == {"bad": "no tokenizer"}
    assert stopped == []


def test_a_restarted_controller_knows_earlier_routings(world):
    store, controller, _, _, statuses = world
    for state in (V1, BOTH, V2, routing.with_shadow(V2, Shadow(version="v3", folder="/3"), **WHO)):
        routing.publish(store, state)
    statuses["engine-stranger"] = "RUNNING"
    controller.cycle()
    assert controller.memory.routed == {"v1", "v2", "v3"}


def test_a_candidate_that_rides_on_the_live_engine_has_none_of_its_own():
    riding = routing.with_shadow(V1, Shadow(version="v2", folder="/v2", base="v1", adapter="/a"), **WHO)
    memory = Memory()
    memory.note(riding, 0)
    assert [v.version for v in plan(riding, {"v1": "RUNNING"}, memory, 0, 10, lora=True).start] == []
    assert [v.version for v in plan(riding, {"v1": "RUNNING"}, memory, 0, 10).start] == ["v2"]
    assert plan(riding, {"v1": "RUNNING", "v2": "RUNNING"}, memory, 99, 10, lora=True).stop == ["v2"]
