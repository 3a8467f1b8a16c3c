"""One Ray Serve session of the gateway benchmark, with several applications side by side.

    python gateway_serve.py FOLDER PORT INGRESS CASE [CASE ...]

Prints one JSON line when all answer (per case: url, front and engine processes) and ends when stdin does. Cases:
``serve-noop``, ``gateway-durable``, ``gateway-async``, ``gateway-off``, ``gateway-shadow`` (durable, every request
mirrored), ``gateway-llm`` and ``serve-llm`` (both over the same engine of ray.serve.llm), and the last two with
``-vllm`` for a tiny model under vLLM.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gateway_mock
import gateway_processes as processes
import httpx

from flywheel.config import FlywheelConfig, dump, load
from flywheel.gateway import apps
from flywheel.inference import engines, hints
from flywheel.inference.coalesce import coalesced
from flywheel.inference.ingress import serve_environment
from flywheel.inference.server import EngineServer, llm_config
from flywheel.inference.streaming import batches
from flywheel.lake.store import ObjectStore
from flywheel.rollout import routing
from flywheel.rollout.routing import Shadow, Variant
from flywheel.telemetry import apply_environment

LOGGING = {"log_level": "WARNING", "enable_access_log": False}
CPUS = {"num_cpus": 0.1}
READY_S = 600.0


class MockEngineServer(gateway_mock.MockEngine):
    """The mock as our engines send a stream."""

    def __init__(self, version: str, interval_ms: float) -> None:
        self._version, self._interval_s = version, interval_ms / 1e3

    async def ping(self) -> str:
        """Which version this is."""
        return self._version

    async def stream(self, body: dict[str, Any]) -> AsyncIterator[str]:
        """Events, those that follow closely in one piece; of a mirrored answer all behind the first."""
        request, wanted = hints.take(body)
        events = super().stream(request)
        pieces = coalesced(events, wanted.max_bytes) if wanted.coalesce else batches(events, self._interval_s)
        async for piece in pieces:
            yield piece


class MockLLMEngineServer(EngineServer):
    """Our engine deployment over ray.serve.llm's server with the mock inside it."""

    async def __init__(self, version: str, folder: str, config: dict[str, Any]) -> None:
        from ray.serve.llm.deployment import LLMServer

        from flywheel.config import EngineConfig

        self._version = version
        engine = EngineConfig.model_validate(config)
        self._stream_interval_s, self._policy = engine.stream_interval_ms / 1e3, engine.scheduling_policy
        settings = llm_config(version, folder, engine)
        self._server = LLMServer.sync_init(settings, engine_cls=gateway_mock.llm_engine())
        await self._server.start()


def mock_llm_server() -> type:
    """Serve LLM's own server class over the same engine."""
    from ray.serve.llm.deployment import LLMServer

    class MockLLMServer(LLMServer):
        async def __init__(self, llm_config: Any, **options: Any) -> None:
            options["engine_cls"] = gateway_mock.llm_engine()
            await super().__init__(llm_config, **options)

    return MockLLMServer


class Noop:
    """The least that Serve can do: read the body, say something."""

    async def __call__(self, request: Any) -> dict[str, Any]:
        """A whole answer."""
        return gateway_mock.completion(await request.json())


class Session:
    """The applications of one Ray cluster."""

    def __init__(self, folder: Path, port: int, ingress: str) -> None:
        self.folder, self.port, self.ingress = folder, port, ingress
        self.model: Path | None = None

    def deploy(self, case: str) -> dict[str, Any]:
        """Start a case; its ``url``, ``front`` and ``engine`` applications, and ``model``."""
        kind = case.removesuffix("-vllm")
        if kind == "serve-noop":
            return self._noop()
        if kind == "serve-llm":
            return self._serve_llm(case)
        return self._gateway(case)

    def _noop(self) -> dict[str, Any]:
        from ray import serve

        noop: Any = serve.deployment(Noop, max_ongoing_requests=1000, ray_actor_options=CPUS)
        serve.run(noop.bind(), name="serve-noop", route_prefix="/serve-noop", logging_config=LOGGING)
        return self._case("serve-noop", "", "mock", ["serve-noop"], [])

    def _gateway(self, case: str) -> dict[str, Any]:
        from ray import serve

        version, shadows = f"of-{case}", []
        folder = self._engine(case, version)
        if case == "gateway-shadow":
            self._engine(case, "candidate")
            shadows = [Shadow(version="candidate", folder=folder, share=1.0)]
        path, config = self._config(case)
        store = ObjectStore(config.lake_uri())
        state = routing.bootstrap(config.flow, Variant(version=version, folder=folder), actor="benchmark")
        routing.publish(store, state.model_copy(update={"shadows": shadows}))
        app = apps.gateway({"config": str(path)})
        serve.run(app, name=case, route_prefix=f"/{case}", logging_config=LOGGING)
        return self._case(case, "/v1/chat/completions", version, [case], [engines.app_name(version)])

    def _config(self, case: str) -> tuple[Path, FlywheelConfig]:
        home = self.folder / case
        values: dict[str, Any] = {"home": str(home), "gateway.port": self.port}
        mode = case.removeprefix("gateway-")
        values["capture.mode"] = mode if mode in {"async", "off"} else "durable"
        config = load(FlywheelConfig, None, values)
        home.mkdir(parents=True, exist_ok=True)
        path = home / "flywheel.yaml"
        dump(config, path)
        return path, config

    def _engine(self, case: str, version: str) -> str:
        """Run the engine that a case asks for; the folder of its weights."""
        from ray import serve

        config = load(FlywheelConfig).engine
        if case.endswith("-vllm"):
            folder = str(self._tiny())
            engines.start(version, folder, config)
            return folder
        over_llm = case == "gateway-llm"
        deployment: Any = serve.deployment(
            MockLLMEngineServer if over_llm else MockEngineServer,
            name="engine",
            max_ongoing_requests=1000,
            ray_actor_options=CPUS,
        )
        app = (
            deployment.bind(version, "mock://", config.model_dump(mode="json"))
            if over_llm
            else deployment.bind(version, config.stream_interval_ms)
        )
        serve.run(app, name=engines.app_name(version), route_prefix=None, logging_config=LOGGING)
        return "mock://"

    def _serve_llm(self, case: str) -> dict[str, Any]:
        from ray import serve
        from ray.serve.llm import LLMConfig, build_openai_app

        version = f"of-{case}"
        folder = str(self._tiny()) if case.endswith("-vllm") else "mock://"
        settings: LLMConfig = llm_config(version, folder, load(FlywheelConfig).engine)
        settings.experimental_configs = {}  # as its users get it, with its batches of 50 ms
        settings.deployment_config = {"num_replicas": 1, "max_ongoing_requests": 1000}
        if not case.endswith("-vllm"):
            settings.server_cls = mock_llm_server()
        app = build_openai_app(
            {"llm_configs": [settings], "ingress_deployment_config": {"num_replicas": 1, "ray_actor_options": CPUS}}
        )
        serve.run(app, name=case, route_prefix=f"/{case}", logging_config=LOGGING)
        return self._case(case, "/v1/chat/completions", version, [case], [], engine_word="LLMServer")

    def _tiny(self) -> Path:
        from flywheel.testing import make_tiny_model

        self.model = self.model or make_tiny_model(self.folder / "tiny")
        return self.model

    def _case(
        self, case: str, path: str, version: str, front: list[str], engine: list[str], *, engine_word: str = ""
    ) -> dict[str, Any]:
        pids = replicas()
        at_front = [pid for name in front for word, pid in pids[name] if not engine_word or engine_word not in word]
        behind = [pid for name in engine for _, pid in pids[name]]
        behind += [pid for name in front for word, pid in pids[name] if engine_word and engine_word in word]
        return {
            "url": f"http://127.0.0.1:{self.port}/{case}{path}",
            "front": [*at_front, *proxies(self.ingress)],
            "engine": behind,
            "model": "" if case.startswith("gateway") else version,
        }


def replicas() -> dict[str, list[tuple[str, int]]]:
    """(deployment, process) of each application's replicas."""
    from ray.serve.context import _get_global_client

    client: Any = _get_global_client()
    return {
        name: [(part, int(one["pid"])) for part, value in app["deployments"].items() for one in value["replicas"]]
        for name, app in client.get_serve_details()["applications"].items()
    }


def proxies(ingress: str) -> list[int]:
    """The processes in which HTTP arrives."""
    import ray

    private: Any = ray._private  # type: ignore[reportPrivateImportUsage]
    node = private.worker._global_node  # the raylet's process is the parent of every worker
    raylet = node.all_processes["raylet"][0].process.pid
    return processes.named(raylet, *(["haproxy", "HAProxyManager"] if ingress == "haproxy" else ["ProxyActor"]))


def wait_answer(case: dict[str, Any]) -> None:
    """Until one request is answered."""
    body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2, "model": case["model"]}
    deadline, last = time.monotonic() + READY_S, ""
    while time.monotonic() < deadline:
        try:
            answer = httpx.post(case["url"], json=body, timeout=60)
            if answer.status_code == 200:
                return
            last = f"{answer.status_code} {answer.text[:300]}"
        except httpx.HTTPError as error:
            last = repr(error)
        time.sleep(0.5)
    raise RuntimeError(f"{case['url']} does not answer: {last}")


def main() -> None:
    """Start, say so, wait for the end of stdin."""
    folder, port, ingress, *cases = sys.argv[1:]
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print: what is read from this process is the one line below
    apply_environment()
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "300")  # a busy machine is slow, not broken
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.update(
        serve_environment(
            "haproxy" if ingress == "haproxy" else "proxy", home=Path(folder), free_port=processes.free_port
        )
    )
    import ray
    from ray import serve

    ray.init(
        address="local",
        num_cpus=16,
        object_store_memory=300 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": int(port)}, logging_config=LOGGING)
    session, found = Session(Path(folder), int(port), ingress), {}
    for case in cases:
        try:
            found[case] = session.deploy(case)
            wait_answer(found[case])
        except Exception as error:  # noqa: BLE001  (one case that cannot start must not end the others; it is reported)
            found[case] = {"error": f"{type(error).__name__}: {error}"[:500]}
    print(json.dumps(found), file=answer, flush=True)
    sys.stdin.read()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
