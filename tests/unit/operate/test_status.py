import json

import pytest

from flywheel.config import FlywheelConfig, load
from flywheel.lake.tables import open_lake
from flywheel.operate.status import status
from flywheel.rollout import routing
from flywheel.workflow.turns.steps import open_turn
from flywheel.workflow.turns.turn import step_key


@pytest.fixture
def config(tmp_path):
    return load(FlywheelConfig, overrides={"home": str(tmp_path / "home")})


def test_an_empty_flow_has_a_state_too(config):
    state = status(open_lake(config), config)
    assert state["live"] is None
    assert (state["candidates"], state["turns"]) == ([], [])
    assert state["funnel"] == {"captured": 0, "consented": 0, "unique": 0, "kept": 0, "dropped": {}}
    json.dumps(state)


def test_a_flow_without_a_list_of_names_says_that_names_stay(config, tmp_path):
    from rich.console import Console

    from flywheel.operate.render import status_tables

    lake, told = open_lake(config), "names are not replaced: privacy.names_file is not set"
    state = status(lake, config)
    assert state["notes"] == [told]
    screen = Console(record=True, width=200)
    status_tables(state, screen)
    assert told in screen.export_text()
    for chosen in ({"names_file": tmp_path / "names.txt"}, {"detectors": ["email"]}):
        other = config.model_copy(update={"privacy": config.privacy.model_copy(update=chosen)})
        assert status(lake, other)["notes"] == []


def test_live_candidates_turns_and_funnel(config):
    lake = open_lake(config)
    first = routing.bootstrap("triage", routing.Variant(version="v1", folder="/m/v1"), actor="test")
    routing.publish(lake.store, first)
    routing.publish(
        lake.store,
        routing.with_shadow(first, routing.Shadow(version="v2", folder="/m/v2", share=0.5), actor="test", reason="try"),
    )
    turn = open_turn(lake.store, config)
    funnel = {"captured": 9, "consented": 8, "unique": 7, "kept": 5, "dropped": {"duplicate": 1}}
    turn.write(step_key("curate"), {"funnel": funnel})
    state = status(lake, config)
    assert (state["live"]["version"], state["live"]["erased"]) == ("v1", [])
    assert state["candidates"] == [{"version": "v2", "share": 0.5}]
    assert state["turns"][0]["decision"] == "continue"
    assert state["funnel"] == funnel
    turn.write("finished", {"decision": "reject", "reasons": ["worse"], "metrics": {"suites": {}}})
    done = status(lake, config)["turns"][0]
    assert (done["id"], done["decision"], done["reasons"]) == ("turn-0001", "reject", ["worse"])


def test_canaries_and_a_split_that_is_not_as_asked_are_shown(config):
    from rich.console import Console

    from flywheel.operate.render import status_tables
    from flywheel.records import Inference, utcnow
    from flywheel.rollout import canaries

    lake, who = open_lake(config), {"actor": "test", "reason": "try"}
    first = routing.bootstrap("triage", routing.Variant(version="v1", folder="/m/v1"), actor="test")
    begun = canaries.with_canary(first, routing.Canary(version="v2", folder="/m/v2", share=0.25), **who)
    for state in (first, begun):
        routing.publish(lake.store, state)
    state = status(lake, config)
    assert (state["canaries"], state["split"]) == ([{"version": "v2", "share": 0.25}], [])
    rows = [
        Inference(
            inference_id=f"i{n}", flow="triage", ts=utcnow(), subject=f"s{n}", model_version="v1", policy_version=2,
            eligible_variants=["v1", "v2"], propensity=0.75, assignment="random", assignment_key_hash=f"k{n}",
            messages=[],
        )
        for n in range(400)
    ]  # fmt: skip
    lake.append("inferences", rows, app="test", version=1)
    state = status(lake, config)
    assert [check["alarm"] for check in state["split"]] == [True]
    screen = Console(record=True, width=200)
    status_tables(state, screen)
    text = screen.export_text()
    assert "canary: v2 for 25 % of the users" in text
    assert "users are not split as asked: 400 keys: v1 100.00% (asked 75.00%), v2 0.00% (asked 25.00%)" in text
    json.dumps(state)
