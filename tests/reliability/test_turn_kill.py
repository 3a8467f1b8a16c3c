"""Promise 9 under SIGKILL: a turn killed at random moments ends as one that was not."""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
import ray_nodes
import s3
import small_flow

from flywheel.lake.keys import MASTER_ENV
from flywheel.lake.manifests import list_manifests
from flywheel.testing import make_tiny_model
from flywheel.workflow.turns.steps import TurnHandle
from flywheel.workflow.turns.turn import STEP_NAMES, step_key

pytestmark = [pytest.mark.ray, pytest.mark.vllm, pytest.mark.slow]

MASTER_KEY = "ab" * 32
KILLS = int(os.environ.get("FLYWHEEL_KILLS", "5"))


@pytest.fixture(autouse=True)
def one_key(monkeypatch):
    """The same people have the same pseudonyms in every home."""
    monkeypatch.setenv(MASTER_ENV, MASTER_KEY)


@pytest.fixture(scope="module")
def cluster():
    nodes = ray_nodes.RayNodes(Path(sys.executable), {MASTER_ENV: MASTER_KEY, **s3.ENVIRONMENT})
    try:
        nodes.start_head(cpus=8)
        yield nodes
    finally:
        nodes.stop()


def test_five_kills_at_random_moments_change_nothing(cluster, tmp_path):
    model = make_tiny_model(tmp_path / "model")
    killed, calm = tmp_path / "killed", tmp_path / "calm"
    _, lake = small_flow.prepare(killed, cluster, model)
    chance = random.Random(20261122)
    turn, stored = TurnHandle(lake.store, "triage", "turn-0001"), {}
    for _ in range(KILLS):
        process = small_flow.start_turn(killed, cluster)
        time.sleep(chance.uniform(4, 20))
        assert process.poll() is None, "the turn ended before it could be killed: make it longer"
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        for name in STEP_NAMES:
            if artifact := turn.read(step_key(name)):
                assert stored.setdefault(name, artifact) == artifact, f"the finished step {name} ran twice"
    assert stored, "every kill came before the first step ended: the test proved nothing"
    assert small_flow.start_turn(killed, cluster).wait(300) == 0, (killed / "turn.log").read_text()[-3000:]
    result = json.loads((killed / "out.json").read_text())
    assert result["id"] == "turn-0001"
    assert {name: result["steps"][name] for name in stored} == stored

    _, calm_lake = small_flow.prepare(calm, cluster, model)
    assert small_flow.start_curation(calm, cluster).wait(300) == 0, (calm / "turn.log").read_text()[-3000:]
    ours, theirs = (list_manifests(one, "dataset", "triage") for one in (lake, calm_lake))
    assert [item.id for item in ours] == [item.id for item in theirs]
    assert len(ours) == 1
    for table, key in small_flow.KEYS.items():
        counts = [small_flow.row_keys(one, table, key) for one in (lake, calm_lake)]
        assert [row for row, times in counts[0].items() if times > 1] == [], table
        if table not in {"decisions", "eval_results"}:  # these come after the dataset
            assert counts[0] == counts[1], table


def test_a_store_that_dies_in_the_middle_is_one_clear_error_and_the_rerun_completes(
    cluster, own_s3_server, tmp_path, monkeypatch
):
    server = own_s3_server
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    lake_section = {"uri": server.new_lake_uri(), "storage_options": server.options}
    folder = tmp_path / "flow"
    _, lake = small_flow.prepare(folder, cluster, make_tiny_model(tmp_path / "model"), lake=lake_section)
    turn = TurnHandle(lake.store, "triage", "turn-0001")

    refused = small_flow.start_turn(folder, cluster, **{**server.environment, "AWS_SECRET_ACCESS_KEY": "wrong"})
    assert refused.wait(120) == 1
    assert "error: " in last_line(folder)
    assert "key" in last_line(folder)

    process = small_flow.start_turn(folder, cluster, **server.environment)
    deadline = time.monotonic() + 200
    while turn.read(step_key("reward")) is None:
        assert process.poll() is None, (folder / "turn.log").read_text()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    finished = {name: turn.read(step_key(name)) for name in STEP_NAMES if turn.read(step_key(name))}
    server.kill()
    assert process.wait(300) == 1
    assert last_line(folder).startswith("error: ")
    assert "Traceback" not in (folder / "turn.log").read_text()

    server.start()
    assert small_flow.start_turn(folder, cluster, **server.environment).wait(300) == 0, (
        folder / "turn.log"
    ).read_text()[-3000:]
    result = json.loads((folder / "out.json").read_text())
    assert {name: result["steps"][name] for name in finished} == finished
    assert len(list_manifests(lake, "dataset", "triage")) == 1
    for table, key in small_flow.KEYS.items():
        assert [row for row, times in small_flow.row_keys(lake, table, key).items() if times > 1] == [], table


def last_line(folder):
    return (folder / "turn.log").read_text().strip().splitlines()[-1]
