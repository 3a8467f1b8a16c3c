"""Scoring whose workers, nodes and driver are killed, twenty times in all: the table is that of a calm one."""

import os
import random
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import psutil
import pytest
import ray_nodes
from small_flow import prepare

from flywheel.testing import make_tiny_model

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("FLYWHEEL_LONG"), reason="takes a quarter of an hour: make reliability"),
]

WORKER = Path(__file__).with_name("scoring_worker.py")
KILLS, INTERACTIONS, PATIENCE_S = 20, 1_200, 600
NO_WORK = ("ray::IDLE", "ray::ServeController", "ray::ProxyActor")
QUALITY = {"min_examples": 10, "reward": {"epochs": 1, "contrasts": 32, "max_pairs": 200, "actors": 2}}
COLUMNS = ["inference_id", "signal", "version", "value"]


@pytest.fixture
def cluster(s3_environment):
    nodes = ray_nodes.RayNodes(Path(sys.executable), {**s3_environment.environment, "FLYWHEEL_MASTER_KEY": "cd" * 32})
    try:
        nodes.start_head()
        for _ in range(2):
            nodes.add_worker(cpus=4)
        yield nodes
    finally:
        nodes.stop()


def start(cluster, folder, model):
    (folder / "begun").unlink(missing_ok=True)
    with (folder / "score.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, WORKER, folder, model], env=cluster.environment, stdout=log, stderr=log
        )


def finished(cluster, folder, model):
    assert start(cluster, folder, model).wait(PATIENCE_S) == 0, (folder / "score.log").read_text()[-3000:]


def table(lake):
    """Every value with how often it is there."""
    return Counter(tuple(row.values()) for row in lake.read("signals", columns=COLUMNS).to_pylist())


def working(cluster):
    """(node, process) of what runs on the worker nodes now."""
    found = []
    for node in cluster.nodes[1:]:
        for process in psutil.Process(node.pid).children(recursive=True):
            try:
                title = (process.cmdline() or [""])[0]
            except psutil.Error:
                continue
            if title.startswith("ray::") and not title.startswith(NO_WORK):
                found.append((node, process))
    return found


def kill(cluster, driver, what, rng):
    """Kill one thing of this sort; False where there was none."""
    if what == "driver":
        driver.kill()
        driver.wait()
        return True
    found = working(cluster)
    if not found:
        return False
    node, process = found[rng.randrange(len(found))]
    if what == "node":
        cluster.kill(node)
        threading.Thread(target=cluster.add_worker, kwargs={"cpus": 4}).start()
        return True
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return False
    return True


def disturbed(cluster, folder, model, rng, killed):
    """One scoring with a kill every few seconds, started again where its driver dies."""
    driver = start(cluster, folder, model)
    while driver.poll() is None:
        if not (folder / "begun").exists():
            threading.Event().wait(0.1)
            continue
        threading.Event().wait(rng.uniform(0.2, 3))
        what = rng.choice(("worker", "worker", "node", "driver"))
        if driver.poll() is None and len(killed) < KILLS and kill(cluster, driver, what, rng):
            killed.append(what)
            if what == "driver":
                driver = start(cluster, folder, model)
    if driver.returncode != 0:  # what a platform does with a failed job: once more
        finished(cluster, folder, model)


def test_killed_twenty_times_the_table_is_that_of_a_calm_scoring(
    cluster, s3_environment, tmp_path, monkeypatch, record_property
):
    monkeypatch.setenv("FLYWHEEL_MASTER_KEY", "cd" * 32)
    model = make_tiny_model(tmp_path / "model")
    rng, killed, rounds = random.Random(6), [], 0

    def flow(name):
        section = {"uri": s3_environment.new_lake_uri(), "storage_options": s3_environment.options}
        return prepare(tmp_path / name, cluster, model, INTERACTIONS, lake=section, quality=QUALITY)[1]

    calm = flow("calm")
    finished(cluster, tmp_path / "calm", model)
    expected = table(calm)
    assert set(expected.values()) == {1}
    assert len({row[0] for row in expected}) > INTERACTIONS / 2
    while len(killed) < KILLS and rounds < KILLS:
        rounds += 1
        lake = flow(f"round-{rounds}")
        for key in calm.store.list("rewards/"):  # the same reward models: what dies here is the scoring
            lake.store.put(key, calm.store.get(key))
        disturbed(cluster, tmp_path / f"round-{rounds}", model, rng, killed)
        assert table(lake) == expected
    record_property("killed", dict(Counter(killed)))
    record_property("scorings", rounds)
    assert len(killed) == KILLS
    assert set(killed) == {"worker", "node", "driver"}
