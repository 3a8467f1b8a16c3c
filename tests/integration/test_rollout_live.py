"""A rollout on a real Ray cluster: real gateway, controller and capture, engines of the same shape without weights.

With FLYWHEEL_LONG=1 the live model is a tiny one on a real vLLM engine.
"""

import logging
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from flywheel.config import FlywheelConfig, dump, load
from flywheel.rollout import promotion, routing
from flywheel.rollout.machine import take
from flywheel.rollout.machine.controller import read_told
from flywheel.rollout.routing import Variant
from flywheel.telemetry import apply_environment

pytestmark = [pytest.mark.ray, pytest.mark.slow]

LONG = bool(os.environ.get("FLYWHEEL_LONG"))
CLIENTS, PAUSE_S = 4, 0.1
STEP = {"min_minutes": 30, "min_requests": 50, "quality": "off", "silence_s": 20}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Cluster:
    def __init__(self, home):
        port = free_port()
        self.config = load(
            FlywheelConfig, None,
            {"home": str(home), "gateway.port": port, "rollout": {"canary_steps": [0.25, 0.5], "step": STEP}},
        )  # fmt: skip
        self.path = home / "flywheel.yaml"
        dump(self.config, self.path)
        self.url = f"http://127.0.0.1:{port}"

    @property
    def lake(self):
        from flywheel.lake.tables import open_lake

        return open_lake(self.config)

    @property
    def routing(self):
        return routing.current(self.lake.store, "triage")

    def up(self):
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def sight(self, version):
        told = read_told(self.lake, "triage") or {"sights": []}
        return next((one for one in told["sights"] if one["version"] == version), {})


def wait(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s: {what}")


class Traffic:
    """Users of a product, each with a name, until told to stop; what they got."""

    def __init__(self, url):
        self._url, self._stop = url, threading.Event()
        self.answers, self.failed = 0, []
        self._pool = ThreadPoolExecutor(CLIENTS)
        self._work = [self._pool.submit(self._ask, number) for number in range(CLIENTS)]

    def _ask(self, number):
        with httpx.Client(timeout=30) as client:
            for turn in range(10**9):
                if self._stop.is_set():
                    return
                body = {"messages": [{"role": "user", "content": "hello"}], "user": f"u{number}-{turn % 40}"}
                answer = client.post(f"{self._url}/v1/chat/completions", json={**body, "max_tokens": 8})
                self.answers += 1
                if answer.status_code != 200:
                    self.failed.append(answer.text)
                time.sleep(PAUSE_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._pool.shutdown()
        for work in self._work:
            work.result()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    apply_environment()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    import ray
    from ray import serve

    from flywheel.gateway.deploy import deploy
    from flywheel.testing import deploy_fake_engine, make_tiny_model

    home = tmp_path_factory.mktemp("rollout")
    made = Cluster(home)
    folder = str(make_tiny_model(home / "tiny")) if LONG else "/none"
    routing.publish(made.lake.store, routing.bootstrap("triage", Variant(version="v1", folder=folder), actor="test"))
    ray.init(
        address="local",
        num_cpus=8,
        object_store_memory=200 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    try:
        deploy(made.path, made.config)
        if not LONG:  # after it: whoever starts Serve first says where it listens
            deploy_fake_engine("v1")
        wait(made.up, 180, "the gateway")
        yield made
    finally:
        serve.shutdown()
        ray.shutdown()


def passed(cluster, version):
    promotion.record_verdict(
        cluster.lake, cluster.config, turn_id=f"t-{version}", candidate=version, live="v1", verdict="promote",
        reasons=[], text="promote",
    )  # fmt: skip


@pytest.mark.parametrize(("fault", "guard"), [("error", "errors"), ("empty", "empty answers")])
def test_a_planted_regression_is_taken_back_within_30_seconds_and_no_user_sees_a_failure(cluster, fault, guard):
    from flywheel.testing_faults import deploy_faulty_engine, plant

    version = f"bad-{fault}"
    deploy_faulty_engine(version)
    passed(cluster, version)
    with Traffic(cluster.url) as traffic:
        take.begin(cluster.lake, cluster.config, Variant(version=version, folder="/none"), reason="gate: promote")
        wait(lambda: cluster.routing.canaries, 30, "the canary's first step")
        assert cluster.routing.canaries[0].share == 0.25
        wait(lambda: (cluster.sight(version).get("requests") or 0) >= 20, 60, "its first answers")
        plant(version, fault)
        onset = time.monotonic()
        wait(lambda: not cluster.routing.canaries, 30, "the rollback")
        seconds = time.monotonic() - onset
    state = cluster.routing
    assert (state.live.version, state.actor) == ("v1", "rollout")
    assert guard in state.reason
    assert traffic.failed == []
    print(f"{fault}: back after {seconds:.1f} s, {traffic.answers} answers")


def test_the_controller_dies_and_the_rollout_goes_on(cluster):
    import ray
    from ray.serve.context import _get_global_client

    from flywheel.testing_faults import deploy_faulty_engine, plant

    def pid():
        details = _get_global_client().get_serve_details()["applications"]["rollout"]["deployments"]
        return next((one["pid"] for part in details.values() for one in part["replicas"] if one.get("pid")), None)

    deploy_faulty_engine("again")
    passed(cluster, "again")
    with Traffic(cluster.url) as traffic:
        take.begin(cluster.lake, cluster.config, Variant(version="again", folder="/none"), reason="gate: promote")
        wait(lambda: cluster.routing.canaries, 30, "the canary's first step")
        before = pid()
        os.kill(before, 9)
        plant("again", "error")
        wait(lambda: pid() not in {before, None}, 60, "another controller")
        wait(lambda: not cluster.routing.canaries, 60, "the rollback by its successor")
    assert traffic.failed == []
    assert ray.is_initialized()


def test_a_candidate_without_a_place_is_said_and_harms_nobody(cluster):
    passed(cluster, "nowhere")
    with Traffic(cluster.url) as traffic:
        take.begin(cluster.lake, cluster.config, Variant(version="nowhere", folder="/none"), reason="gate: promote")
        found = wait(lambda: cluster.sight("nowhere").get("obstacle"), 60, "why it is not served")
    assert "/none" in found
    assert cluster.sight("nowhere")["ready"] is False
    assert cluster.routing.canaries == []
    assert traffic.failed == []
    take.back(cluster.lake, cluster.config, "nowhere", reason="end", actor="test")
