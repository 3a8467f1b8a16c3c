"""A small cluster with a real gateway, capture and rollout controller, and users who keep asking it."""

import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx

from flywheel.config import FlywheelConfig, dump, load
from flywheel.rollout import promotion, routing
from flywheel.rollout.machine.controller import read_told
from flywheel.rollout.routing import Variant
from flywheel.telemetry import apply_environment

CLIENTS, PAUSE_S = 4, 0.1


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait(condition, seconds, what):
    """What ``condition`` gives as soon as that is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s: {what}")


class Cluster:
    """The configuration of one, and what can be asked of it from outside."""

    def __init__(self, home, **settings):
        port = free_port()
        self.config = load(FlywheelConfig, None, {"home": str(home), "gateway.port": port, **settings})
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

    def passed(self, version):
        """The gate's word for ``version`` over the present live model."""
        promotion.record_verdict(
            self.lake, self.config, turn_id=f"t-{version}", candidate=version, live=self.routing.live.version,
            verdict="promote", reasons=[], text="promote",
        )  # fmt: skip

    @contextmanager
    def running(self, live, *, fake=True):
        """A Ray cluster of its own, everything deployed, ``live`` in force."""
        apply_environment()
        import ray
        from ray import serve

        from flywheel.gateway.deploy import deploy
        from flywheel.testing import deploy_fake_engine

        routing.publish(self.lake.store, routing.bootstrap("triage", live, actor="test"))
        ray.init(
            address="local",
            num_cpus=8,
            object_store_memory=200 * 2**20,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        try:
            deploy(self.path, self.config)
            if fake:  # after it: whoever starts Serve first says where it listens
                deploy_fake_engine(live.version)
            wait(self.up, 180, "the gateway")
            yield self
        finally:
            serve.shutdown()
            ray.shutdown()


def pid_of(app):
    """Process id of the one running replica of a Serve application; None while there is none."""
    from ray.serve.context import _get_global_client

    found = _get_global_client().get_serve_details()["applications"][app]["deployments"]
    replicas = [one for part in found.values() for one in part["replicas"]]
    return next((one["pid"] for one in replicas if one.get("pid") and one["state"] == "RUNNING"), None)


def without_weights(version):
    """A variant whose engine is a fake that the test deploys."""
    return Variant(version=version, folder="/none")


class Traffic:
    """Users of a product, each with a name, until told to stop; what they got."""

    def __init__(self, url):
        self._url, self._stop = url, threading.Event()
        self.acknowledged, self.failed = [], []
        self._pool = ThreadPoolExecutor(CLIENTS)
        self._work = [self._pool.submit(self._ask, number) for number in range(CLIENTS)]

    def _ask(self, number):
        with httpx.Client(timeout=30) as client:
            for turn in range(10**9):
                if self._stop.is_set():
                    return
                body = {"messages": [{"role": "user", "content": "hello"}], "user": f"u{number}-{turn % 40}"}
                try:
                    answer = client.post(f"{self._url}/v1/chat/completions", json={**body, "max_tokens": 8})
                except httpx.HTTPError as error:
                    self.failed.append(repr(error))
                    continue
                if answer.status_code == 200:
                    self.acknowledged.append(answer.json()["flywheel"]["inference_id"])
                else:
                    self.failed.append(answer.text)
                time.sleep(PAUSE_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._pool.shutdown()
        for work in self._work:
            work.result()
