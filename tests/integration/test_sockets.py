"""Every listening socket of the deployed set, spoken to without a key: who answers, and what it gives away.

One real Ray cluster as `flywheel up` starts it (token authentication, its own token), the shipped Serve applications,
an API key, and a mock engine. Sockets are those of the operating system, of every process of the set.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from threading import Thread

import httpx
import psutil
import pytest

from flywheel.config import FlywheelConfig, dump, load
from flywheel.gateway.keyfile import change_keys
from flywheel.gateway.keys import ApiKey, digest, new_id
from flywheel.workflow.cluster import free_port

pytestmark = [pytest.mark.ray, pytest.mark.slow]
START_S = 300
SECRET = "fw-test"
HTTP_TRIES = [
    ("GET", "/"),
    ("GET", "/metrics"),
    ("GET", "/v1/models"),
    ("GET", "/openapi.json"),
    ("GET", "/api/jobs/"),
    ("GET", "/api/v0/actors"),
    ("GET", "/api/serve/applications/"),
    ("GET", "/logs"),
    ("GET", "/-/routes"),
    ("GET", "/-/healthz"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/feedback"),
    ("POST", "/v1/load_lora_adapter"),
    ("POST", "/tokenize"),
    ("POST", "/api/jobs/"),
    ("POST", "/get_or_create_runtime_env"),
    ("PUT", "/api/serve/applications/"),
]
METRICS = "metrics"
"""Stands for an answer in Prometheus' format: Ray's own numbers, which no setting guards."""
PUBLIC = {
    "gateway": {("GET", "/-/routes"): 200, ("GET", "/-/healthz"): 200},  # Serve's proxy answers these itself
    "dashboard": {("GET", "/"): 200, ("GET", "/-/healthz"): 200},  # the page that asks for the token, and a probe
}
GRPC_TRIES = [
    "/ray.rpc.InternalKVGcsService/InternalKVKeys",
    "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "/ray.rpc.NodeManagerService/GetNodeStats",
    "/ray.rpc.CoreWorkerService/GetCoreWorkerStats",
    "/ray.rpc.ObjectManagerService/Pull",
    "/ray.rpc.ReporterService/GetTraceback",
]


@dataclass(frozen=True)
class Socket:
    process: str
    host: str
    port: int

    @property
    def loopback(self):
        return self.host in {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


class Instance:
    def __init__(self, home: Path) -> None:
        self.config = load(
            FlywheelConfig,
            None,
            {
                "home": str(home),
                "gateway.port": free_port(),
                "gateway.api_keys_file": str(home / "keys.jsonl"),
                "cluster.dashboard_port": free_port(),
                "cluster.object_store_mb": 100,
            },
        )
        key = ApiKey(id=new_id(), name="k", sha256=digest(SECRET), roles=["product"], flows=["triage"])
        change_keys(home / "keys.jsonl", lambda _: [key])
        path = home / "flywheel.yaml"
        dump(self.config, path)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
        environment.pop("RAY_ADDRESS", None)
        self.log = home / "instance.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, Path(__file__).parents[1] / "instance.py", path],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment,
            )  # fmt: skip
        self.url = self._ready()["ready"]

    def _ready(self):
        lines: Queue[str] = Queue()
        Thread(target=lambda: [lines.put(line) for line in self.process.stdout], daemon=True).start()
        try:
            while not (line := lines.get(timeout=START_S)).startswith('{"ready"'):
                pass
        except Empty:
            self.stop()
            raise AssertionError(f"the instance did not start: {self.log.read_text()[-3000:]}") from None
        return json.loads(line)

    def sockets(self):
        found = set()
        head = psutil.Process(self.process.pid)
        for process in [head, *head.children(recursive=True)]:
            try:
                name = " ".join(process.cmdline()[:3])
                for connection in process.net_connections(kind="tcp"):
                    if connection.status == psutil.CONN_LISTEN:
                        found.add(Socket(name, connection.laddr.ip, connection.laddr.port))
            except psutil.NoSuchProcess:
                continue
        return sorted(found, key=lambda one: one.port)

    def stop(self):
        processes = psutil.Process(self.process.pid).children(recursive=True)
        self.process.stdin.close()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
        _, alive = psutil.wait_procs(processes, 15)
        for process in alive:
            process.kill()


@pytest.fixture(scope="module")
def instance(tmp_path_factory):
    running = Instance(tmp_path_factory.mktemp("sockets"))
    yield running
    running.stop()


def spoken_http(port):
    """Status of each try without a key; empty: it does not speak HTTP."""
    found = {}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=5, trust_env=False) as client:
        for method, path in HTTP_TRIES:
            try:
                answer = client.request(method, path, json={} if method != "GET" else None)
            except httpx.HTTPError:
                if not found:
                    return {}
                continue
            prometheus = answer.headers.get("content-type", "").startswith("text/plain; version=")
            found[method, path] = METRICS if prometheus and answer.status_code == 200 else answer.status_code
    return found


def spoken_grpc(port):
    """Status code of each Ray call without a token."""
    import grpc

    found = {}
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for method in GRPC_TRIES:
            call = channel.unary_unary(method, request_serializer=bytes, response_deserializer=bytes)
            try:
                call(b"", timeout=3)
                found[method] = "OK"
            except grpc.RpcError as error:
                found[method] = error.code().name
                if found[method] in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}:
                    return found  # it does not speak gRPC
    return found


def test_nothing_is_given_to_whoever_has_no_key(instance):
    sockets = instance.sockets()
    gateway, dashboard = instance.config.gateway.port, instance.config.cluster.dashboard_port
    http = {one: spoken_http(one.port) for one in sockets}
    grpc = {one: spoken_grpc(one.port) for one in sockets if not http[one]}
    report = "\n".join(f"{one.host}:{one.port} {one.process} {http[one] or set(grpc[one].values())}" for one in sockets)
    (instance.log.parent / "sockets.txt").write_text(report)
    print(report)
    ports = {gateway: "gateway", dashboard: "dashboard"}
    assert set(ports) <= {one.port for one in sockets if http[one]}
    assert [one.loopback for one in sockets if one.port in ports] == [True, True]
    for one, answers in http.items():
        given = {call: status for call, status in answers.items() if status == METRICS or status < 400}
        known = PUBLIC.get(ports.get(one.port, ""), {})
        assert given.items() <= known.items() or set(given.values()) == {METRICS}, (str(one), given)
    assert not [(str(one), call) for one, said in grpc.items() for call, code in said.items() if code == "OK"]


def test_the_gateway_asks_for_its_key_and_has_none_of_vllms_routes(instance):
    with httpx.Client(base_url=instance.url, trust_env=False, timeout=20) as client:
        probes = {path for path in ("/healthz", "/readyz") if client.get(path).status_code == 200}
        assert probes == {"/healthz", "/readyz"}
        client.headers["authorization"] = f"Bearer {SECRET}"
        body = {"model": "triage", "messages": [{"role": "user", "content": "hi"}]}
        assert client.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"] == "HI"
        vllm = [
            "/load",
            "/version",
            "/server_info",
            "/tokenize",
            "/v1/load_lora_adapter",
            "/sleep",
            "/reset_prefix_cache",
        ]
        assert {client.post(path, json={}).status_code for path in vllm} == {404}
        assert {client.get(path).status_code for path in vllm} == {404}
