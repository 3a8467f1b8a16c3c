"""A sweep of its own: which candidates it takes, and that a period's sweep is done once."""

import json

import pytest
from small_sweep import result

from flywheel.config import FilterConfig, FlywheelConfig, load
from flywheel.errors import UsageError
from flywheel.lake.tables import open_lake
from flywheel.records import utcnow
from flywheel.workflow.turns import alone
from flywheel.workflow.turns.steps import TurnHandle
from flywheel.workflow.turns.turn import step_key


@pytest.fixture
def config(tmp_path):
    return FlywheelConfig(flow="f", home=tmp_path / "home")


def test_a_finished_period_is_told_again_and_its_files_come_back(config, tmp_path, monkeypatch):
    swept = []

    def once(lease, lake, config, *, out, named, restart, progress):
        swept.append(named)
        record = {
            **result().model_dump(mode="json"),
            "turn": "turn-0001",
            "changes": {},
            "period": named,
            "svg": "<svg/>",
        }
        lake.store.put(alone._period_key(config, named), json.dumps(record).encode())
        return record

    monkeypatch.setattr(alone, "_sweep", once)
    out = tmp_path / "filter.yaml"
    alone.run_sweep(config, out=out, period="week")
    again = alone.run_sweep(config, out=out, period="week")
    assert swept == [alone.period_name("week", utcnow())]
    assert (again["repeated"], again["period"], again["best"]["version"]) == (True, swept[0], "sweep-x")
    assert load(FilterConfig, out) == result().best
    assert (tmp_path / "filter.svg").read_text() == "<svg/>"
    alone.run_sweep(config, out=out, period="month")
    assert len(swept) == 2
    with pytest.raises(UsageError, match="no period"):
        alone.run_sweep(config, out=out, period="fortnight")


def test_the_newest_turn_with_scores_and_files_here_is_searched(config):
    lake = open_lake(config)

    def turn(number: int, *, scored: bool, here: bool) -> str:
        handle = TurnHandle(lake.store, "f", f"turn-{number:04d}")
        handle.write("turn", {})
        if scored:
            handle.write(step_key("score"), {"rows": 1})
        if here:
            (config.home_path() / "turns" / "f" / handle.turn_id / "candidates").mkdir(parents=True)
        return handle.turn_id

    assert alone._scored_turn(lake, config) is None
    turn(1, scored=True, here=True)
    wanted = turn(2, scored=True, here=True)
    turn(3, scored=True, here=False)
    turn(4, scored=False, here=True)
    found = alone._scored_turn(lake, config)
    assert found is not None
    assert found.turn_id == wanted
