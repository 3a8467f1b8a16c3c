import json

import pytest

from flywheel.config import FlywheelConfig, load
from flywheel.lake.tables import open_lake
from flywheel.operate.status import status
from flywheel.rollout import routing
from flywheel.workflow.steps import open_turn
from flywheel.workflow.turn import step_key


@pytest.fixture
def config(tmp_path):
    return load(FlywheelConfig, overrides={"home": str(tmp_path / "home")})


def test_an_empty_flow_has_a_state_too(config):
    state = status(open_lake(config), config)
    assert state["live"] is None
    assert (state["candidates"], state["turns"]) == ([], [])
    assert state["funnel"] == {"captured": 0, "consented": 0, "unique": 0, "kept": 0, "dropped": {}}
    json.dumps(state)


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
