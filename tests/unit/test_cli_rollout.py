"""`flywheel rollout` as a user meets it, on a lake in memory."""

import json

import pytest
from memory_lake import MemoryLake
from typer.testing import CliRunner

import flywheel.rollout.promotion as promotion
from flywheel.cli.main import app
from flywheel.config import FlywheelConfig, load
from flywheel.errors import UsageError
from flywheel.rollout.routing import Variant


@pytest.fixture
def flow(tmp_path, monkeypatch):
    monkeypatch.setattr(promotion, "project_aliases", lambda _config, wanted: None)
    monkeypatch.chdir(tmp_path)
    config = load(FlywheelConfig, None, {"home": str(tmp_path / "home")})
    lake = MemoryLake()
    monkeypatch.setattr("flywheel.lake.tables.open_lake", lambda _config: lake)
    promotion.start(lake, config, Variant(version="v1", folder="/1"))
    promotion.shadow(lake, config, Variant(version="v2", folder="/2"))
    promotion.record_verdict(
        lake, config, turn_id="t", candidate="v2", live="v1", verdict="promote", reasons=[], text="yes"
    )

    def run(*words, steps="[0.05, 0.5]"):
        home = ["-s", f"home={tmp_path / 'home'}", "-s", f"rollout.canary_steps={steps}"]
        return CliRunner().invoke(app, ["rollout", *words, *home])

    return run


def read(result):
    assert result.exit_code == 0, result.exception or result.output
    return json.loads(result.stdout)


def test_from_start_to_live_and_back(flow):
    assert read(flow("start", "v2", "--reason", "go", "--json"))["rollouts"] == [{"version": "v2", "paused": None}]
    told = read(flow("status", "--json"))
    [one] = told["candidates"]
    assert (one["stage"], one["next"], one["passed"], told["controller"]) == ("shadow", 0.05, True, None)
    assert read(flow("pause", "v2", "--reason", "lunch", "--json"))["rollouts"][0]["paused"] == "person"
    assert "held: person" in flow("status").stdout
    assert read(flow("resume", "v2", "--reason", "back", "--json"))["changed"] is True
    assert "v1 95 %, v2 5 %" in flow("approve", "v2", "--reason", "fine").stdout
    assert "v1 50 %, v2 50 %" in flow("approve", "v2", "--reason", "fine").stdout
    assert read(flow("approve", "v2", "--reason", "fine", "--json"))["live"]["version"] == "v2"
    assert read(flow("status", "--json"))["live"]["watched"] is True
    assert "back to v1" in flow("status").stdout
    assert read(flow("rollback", "v2", "--reason", "bad", "--json"))["live"]["version"] == "v1"


def test_history_as_rows_and_as_a_picture(flow, tmp_path):
    flow("start", "v2", "--reason", "go")
    flow("approve", "v2", "--reason", "fine")
    told = read(flow("history", "--json"))
    assert [moment["action"] for moment in told] == ["bootstrap", "shadow", "rollout", "canary"]
    assert "fine" in flow("history", "v2").stdout
    assert flow("history", "--out", str(tmp_path / "shares.svg")).exit_code == 0
    assert (tmp_path / "shares.svg").read_text().startswith("<svg")


def test_what_is_wrong_is_said(flow):
    for words, said in (
        (("start", "v2", "--reason", " "), "Say why"),
        (("pause", "v2", "--reason", "x"), "in no rollout"),
        (("rollback", "v9", "--reason", "x"), "no role"),
        (("start", "v1", "--reason", "x"), None),
    ):
        result = flow(*words)
        if said is None:
            assert "as it was" in result.stdout
        else:
            assert isinstance(result.exception, UsageError)
            assert said in str(result.exception)
    off = flow("start", "v2", "--reason", "x", steps="[]")
    assert "canary_steps is empty" in str(off.exception)
    assert "rollouts are off" in flow("status", steps="[]").stdout


@pytest.mark.parametrize("steps", ["[0.5, 0.25]", "[0.5, 1.0]", "[0.0]", "[0.2, 0.2]"])
def test_steps_grow(flow, steps):
    assert "each above the one before" in str(flow("status", steps=steps).exception)
