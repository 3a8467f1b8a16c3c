"""A worker node that dies in each stage of a turn: the turn completes, with the same dataset and the same model."""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import ray_nodes
from small_flow import KEYS, prepare, row_keys, start_turn

from flywheel.inference.models import TRAINING_REPORT
from flywheel.lake.manifests import list_manifests
from flywheel.testing import make_tiny_model
from flywheel.workflow.turns.steps import TurnHandle
from flywheel.workflow.turns.turn import STEP_NAMES, step_key

pytestmark = [
    pytest.mark.ray,
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("FLYWHEEL_LONG"), reason="takes ten minutes: make reliability"),
]

STAGES = ("reward", "score", "sweep", "train", "evaluate")
"""Stages whose work lies on the nodes; the others run in the driver."""
NO_WORK = ("ray::IDLE", "ray::ServeController", "ray::ProxyActor")
INTERACTIONS = 600
LONGER = {
    "quality": {"min_examples": 10, "reward": {"epochs": 8}},
    "sweep": {"trials": 4, "proposals_per_trial": 50, "max_concurrent": 2, "min_tune_labels": 10},
}
"""Stages that last long enough to be hit."""


@pytest.fixture
def cluster(s3_environment):
    nodes = ray_nodes.RayNodes(Path(sys.executable), {**s3_environment.environment, "FLYWHEEL_MASTER_KEY": "cd" * 32})
    try:
        nodes.start_head()
        for _ in range(3):
            nodes.add_worker(cpus=4)
        yield nodes
    finally:
        nodes.stop()


def busy_worker(cluster):
    """The worker node on which something of a turn runs now, or None. Ray names its processes by what they run."""
    for node in cluster.nodes[1:]:  # the first is the head
        for process in psutil.Process(node.pid).children(recursive=True):
            try:
                title = (process.cmdline() or [""])[0]
            except psutil.Error:
                continue
            if title.startswith("ray::") and not title.startswith(NO_WORK):
                return node
    return None


def kill_in_each_stage(cluster, turn, killed, over):
    """As soon as a stage works on a worker node, that node dies; another one joins while the work goes on."""
    with ThreadPoolExecutor() as joining:
        for stage in STAGES:
            before = step_key(STEP_NAMES[STEP_NAMES.index(stage) - 1])
            while turn.read(before) is None:
                if over.wait(0.1):
                    return
            while turn.read(step_key(stage)) is None and not over.wait(0.1):
                if node := busy_worker(cluster):
                    cluster.kill(node)
                    if turn.read(step_key(stage)) is None:
                        killed.append(stage)
                    joining.submit(cluster.add_worker, cpus=4)
                    break


def weights(model):
    """Hashes of the files that a model consists of; its training report tells how long it took."""
    return {name: digest for name, digest in model.data["files"].items() if name != TRAINING_REPORT}


def test_a_node_that_dies_in_each_stage_changes_nothing(cluster, s3_environment, tmp_path, monkeypatch):
    monkeypatch.setenv("FLYWHEEL_MASTER_KEY", "cd" * 32)
    model = make_tiny_model(tmp_path / "model")
    lakes = {}
    killed, over = [], threading.Event()
    for name in ("calm", "killed"):
        section = {"uri": s3_environment.new_lake_uri(), "storage_options": s3_environment.options}
        _, lakes[name] = prepare(tmp_path / name, cluster, model, INTERACTIONS, lake=section, **LONGER)
        turn = TurnHandle(lakes[name].store, "triage", "turn-0001")
        reaper = threading.Thread(target=kill_in_each_stage, args=(cluster, turn, killed, over))
        if name == "killed":
            reaper.start()
        try:
            code = start_turn(tmp_path / name, cluster).wait(900)
        finally:
            over.set()
        assert code == 0, (tmp_path / name / "turn.log").read_text()[-3000:]
        if name == "killed":
            reaper.join(120)
        over.clear()
    for kind in ("dataset", "model"):
        ours, theirs = (list_manifests(lakes[name], kind, "triage") for name in ("killed", "calm"))
        assert [item.id for item in ours] == [item.id for item in theirs]
        if kind == "model":  # resumed to the same bits
            assert [weights(item) for item in ours] == [weights(item) for item in theirs]
    for table, key in KEYS.items():
        assert [row for row, times in row_keys(lakes["killed"], table, key).items() if times > 1] == [], table
    assert len(lakes["killed"].read("inferences", columns=["inference_id"])) == INTERACTIONS
    assert killed == list(STAGES), f"only {killed} lasted long enough to be hit"
