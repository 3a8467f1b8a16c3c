"""Serve application ``rollout``: the rollout's controller, which hears every gateway replica. No route.

Replaced by Serve when it dies; the next one waits for the lease to expire, reads the routing and counts anew. Three
threads: the controller's looks, the comparison on live traffic, which reads the lake and may take its time, and what
Serve and the cluster say about engines.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from flywheel.config import FlywheelConfig
from flywheel.gateway.apps import load_config, path_of, supervised
from flywheel.records import utcnow

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
COMPARE_S: Final = 5.0
OBSTACLES_S: Final = 10.0
STALE_S: Final = 300.0
"""A comparison that could not be made for so long is not known any more."""
MLFLOW_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
"""The looks wait for MLflow's aliases. One that hangs must not keep them from taking a model back."""


class Newest:
    """The last value of something that takes its time, made in a loop of its own."""

    def __init__(self, make: Callable[[], Any], empty: Any) -> None:
        self._make, self._empty, self._value, self._at = make, empty, empty, None

    def cycle(self) -> bool:
        """Make it once more."""
        self._value, self._at = self._make(), utcnow()
        return False

    def __call__(self) -> Any:
        """The last one, or nothing when that is too old."""
        fresh = self._at is not None and (utcnow() - self._at).total_seconds() < STALE_S
        return self._value if fresh else self._empty


class RolloutReplica:
    """Holds the loops; see ``rollout.machine.controller``."""

    def __init__(self, path: str) -> None:
        """Start them."""
        from flywheel.capture.service import Loop
        from flywheel.lake.tables import open_lake
        from flywheel.rollout.machine.controller import Controller
        from flywheel.workflow.live.watching import open_watch

        config = load_config(path)
        os.environ.update(MLFLOW_PATIENCE)
        lake = open_lake(config)
        verdicts, obstacles = Newest(open_watch(lake, config).update, []), Newest(lambda: obstacles_of(config), {})
        self._controller = Controller(lake, config, verdicts=verdicts, obstacles=obstacles)
        self._loops = [
            Loop("rollout", self._controller.cycle, LOOK_S),
            Loop("comparison", verdicts.cycle, COMPARE_S),
            Loop("obstacles", obstacles.cycle, OBSTACLES_S),
        ]
        for loop in self._loops:
            loop.start()

    async def report(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """A gateway's counters; whether its answers are to be read."""
        self._controller.report(told)
        return {"comparing": self._controller.comparing}

    def check_health(self) -> None:
        """Raises when the looks are dead or make no progress; the other loops may fail for as long as they like."""
        self._loops[0].check_health()

    async def __del__(self) -> None:
        """Let running passes finish, and let a successor begin at once."""
        if hasattr(self, "_loops"):
            await asyncio.gather(*(asyncio.to_thread(loop.stop) for loop in self._loops))
            await asyncio.to_thread(self._controller.release)


def obstacles_of(config: FlywheelConfig) -> dict[str, str]:
    """Why engines do not run, by version: their size against the cluster's nodes, else what Serve says."""
    import ray
    from ray import serve

    from flywheel.inference.engines import APP_PREFIX
    from flywheel.placement import Need, unplaceable

    engine = config.engine
    apps = {name: app for name, app in serve.status().applications.items() if name.startswith(APP_PREFIX)}
    waiting = {name.removeprefix(APP_PREFIX): app for name, app in apps.items() if app.status.value != "RUNNING"}
    refused = _refused()
    if not waiting:
        return refused
    nodes: Sequence[Mapping[str, float]] = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    each = {"CPU": engine.num_cpus, "GPU": engine.num_gpus}
    need = Need("engines of this flow", len(apps) * engine.num_replicas, each, "engine.num_cpus or engine.num_gpus")
    full = unplaceable([need], nodes)
    said = {version: (full or [_last_line(app.message) or app.status.value])[0] for version, app in waiting.items()}
    return said | refused


def _refused() -> dict[str, str]:
    """Engines that could not even be asked for, as the engine controller has it; nothing while that is away."""
    from ray import serve

    try:
        return dict(serve.get_app_handle("controller").state.remote().result(timeout_s=5)["errors"])
    except Exception as error:  # noqa: BLE001  (only words for people hang on it)
        log.info("the engine controller says nothing: %r", error)
        return {}


def _last_line(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def rollout(args: dict[str, str]) -> Any:
    """Serve application ``rollout``."""
    return supervised(RolloutReplica, "Rollout", path_of(args))
