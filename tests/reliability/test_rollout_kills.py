"""A live rollout under traffic while its controller, the ingester, MLflow and the lake are killed, phase after phase.

Lake and MLflow are real servers. With FLYWHEEL_LONG=1 everybody is killed in every phase; else the controller in the
shadow and the lake in the canary's first step.
"""

import json
import os
import signal
import time
from collections import Counter

import pytest
from mlflow_server import MlflowServer
from rollout_cluster import Cluster, Traffic, pid_of, wait, without_weights
from s3 import new_s3_server

from flywheel.errors import LakeError
from flywheel.registry.tracking import client
from flywheel.registry.versions import register
from flywheel.rollout import history, routing
from flywheel.rollout.machine import take
from flywheel.rollout.machine.controller import read_told

pytestmark = [pytest.mark.ray, pytest.mark.s3, pytest.mark.slow]

LONG = bool(os.environ.get("FLYWHEEL_LONG"))
PHASES = ["shadow", "0.25", "0.5", "live"]
VICTIMS = ["controller", "lake", "ingester", "mlflow"]
APPS = {"controller": "rollout", "ingester": "capture"}
AWAY_S = 5.0
STEP = {"min_minutes": 0.3, "min_requests": 50, "quality": "off", "silence_s": 30, "watch_minutes": 0.5}


class World:
    """The cluster and the two servers beside it."""

    def __init__(self, cluster, lake, mlflow, folder):
        self.cluster, self.servers = cluster, {"lake": lake, "mlflow": mlflow}
        self._folder = folder

    def model(self, name):
        """A registered version; its engine is a fake."""
        folder = self._folder / name
        folder.mkdir()
        for file, content in {
            "config.json": {}, "tokenizer.json": {}, "tokenizer_config.json": {"chat_template": "{{ messages }}"},
        }.items():  # fmt: skip
            (folder / file).write_text(json.dumps(content))
        (folder / "model.safetensors").write_text(name)
        return register(self.cluster.lake, self.cluster.config, folder=folder).version

    def phase(self, version):
        """Where ``version`` stands; None while the lake cannot say."""
        try:
            now = self.cluster.routing
        except LakeError:
            return None
        return phase_in(now, version)

    def kill(self, victim):
        """SIGKILL, some seconds without, and a successor that works."""
        if victim in self.servers:
            server = self.servers[victim]
            server.kill()
            time.sleep(AWAY_S)
            server.start()
            return
        app = APPS[victim]
        gone = pid_of(app)
        os.kill(gone, signal.SIGKILL)
        wait(lambda: pid_of(app) not in {gone, None}, 60, f"another {victim}")

    def told_at(self):
        return (read_told(self.cluster.lake, "triage") or {}).get("at")

    def aliases(self):
        found = client(self.cluster.config).get_registered_model("triage").aliases
        numbers = client(self.cluster.config).search_model_versions("name = 'triage'")
        names = {one.version: one.tags["flywheel.version"] for one in numbers}
        return {alias: names[number] for alias, number in found.items()}


def phase_in(state, version):
    if state.live.version == version:
        return "live"
    canary = next((one for one in state.canaries if one.version == version), None)
    if canary is not None:
        return f"{canary.share:g}"
    return "shadow" if any(one.version == version for one in state.shadows) else "none"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    home = tmp_path_factory.mktemp("kills")
    lake, mlflow = new_s3_server(home), MlflowServer(home)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in lake.environment.items():
            patch.setenv(name, value)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        try:
            lake.start()
            mlflow.start()
            cluster = Cluster(
                home, lake={"uri": lake.new_lake_uri(), "storage_options": lake.options},
                rollout={"canary_steps": [0.25, 0.5], "step": STEP}, **{"tracking.uri": mlflow.uri},
            )  # fmt: skip
            made = World(cluster, lake, mlflow, home)
            with cluster.running(without_weights(made.model("first"))):
                yield made
        finally:
            mlflow.kill()
            lake.kill()


@pytest.mark.parametrize("shift", range(len(VICTIMS)) if LONG else [0])
def test_whoever_is_killed_in_a_phase_the_rollout_goes_on_and_no_user_notices(world, shift, record_property):
    from flywheel.testing import deploy_fake_engine

    cluster = world.cluster
    before = cluster.routing
    version = world.model(f"candidate-{shift}")
    cluster.passed(version)
    began = time.monotonic()
    with Traffic(cluster.url) as traffic:
        take.begin(cluster.lake, cluster.config, without_weights(version), reason="gate: promote")
        for place, phase in enumerate(PHASES):
            wait(lambda phase=phase: world.phase(version) == phase, 120, f"{version} in phase {phase}")
            victim = VICTIMS[(place + shift) % len(VICTIMS)]
            if LONG or place < 2:
                world.kill(victim)
            if phase == "shadow":  # it waited there for its engine
                deploy_fake_engine(version)
            told = world.told_at()
            wait(lambda told=told: world.told_at() != told, 60, f"the controller, {victim} killed in {phase}")
    record_property("seconds", round(time.monotonic() - began, 1))
    record_property("requests", len(traffic.acknowledged))
    assert traffic.failed == []
    assert steps(cluster, version, before.n) == PHASES
    rows = [row for row in history.decisions(cluster.lake, "triage") if row.action != "gate"]
    assert sorted(row.routing_n for row in rows) == list(range(1, cluster.routing.n + 1))
    wait(lambda: world.aliases() == {"live": version}, 60, "MLflow's alias")
    times = wait(lambda: in_the_lake(cluster, traffic.acknowledged), 120, "every acknowledged request in the lake")
    assert {name: n for name, n in times.items() if n > 1} == {}


def test_a_regression_is_taken_back_in_time_while_mlflow_hangs(world, record_property):
    from flywheel.testing_faults import deploy_faulty_engine, plant

    cluster, server = world.cluster, world.servers["mlflow"]
    version, live = world.model("broken"), cluster.routing.live.version
    deploy_faulty_engine(version)
    cluster.passed(version)
    with Traffic(cluster.url) as traffic:
        take.begin(cluster.lake, cluster.config, without_weights(version), reason="gate: promote")
        server.kill(signal.SIGSTOP)
        try:
            wait(lambda: cluster.routing.canaries, 60, "the canary's first step")
            wait(lambda: (cluster.sight(version).get("requests") or 0) >= 20, 60, "its first answers")
            plant(version, "error")
            onset = time.monotonic()
            wait(lambda: not cluster.routing.canaries, 30, "the rollback")
            record_property("back_after_s", round(time.monotonic() - onset, 1))
        finally:
            server.kill(signal.SIGCONT)
    assert traffic.failed == []
    assert cluster.routing.live.version == live
    wait(lambda: world.aliases() == {"live": live}, 60, "MLflow's aliases")


def steps(cluster, version, since):
    """The phases that the routing took ``version`` through, each once however often it paused there."""
    states = [routing.read(cluster.lake.store, "triage", n) for n in range(since + 1, cluster.routing.n + 1)]
    found = [phase_in(state, version) for state in states]
    return [phase for place, phase in enumerate(found) if place == 0 or phase != found[place - 1]]


def in_the_lake(cluster, ids):
    """Times that each id is in the table, once all of them are."""
    rows = Counter(cluster.lake.read("inferences", columns=["inference_id"])["inference_id"].to_pylist())
    return rows if set(ids) <= rows.keys() else None
