"""What runs as Serve applications: gateway, capture, controller, and a ranker where one is configured.

Builders take the path of the configuration.

``serve deploy configs/local/serve.yaml`` names the builders; ``deploy.py`` deploys the same from Python.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Any

from flywheel.config import FlywheelConfig, load
from flywheel.telemetry import apply_environment

CONFIG_ENV = "FLYWHEEL_CONFIG"
CONTROLLER_POLL_S = 1.0
CPUS = 0.1
"""Logical CPUs of each of these processes: they mostly wait, and engines and training need the machine."""

log = logging.getLogger(__name__)


class GatewayReplica:
    """One replica of the HTTP service."""

    def __init__(self, path: str) -> None:
        """Open everything that answering needs; see ``gateway.service``."""
        from flywheel.gateway.auth import load_keys
        from flywheel.gateway.service import open_gateway

        config = load_config(path)
        self._gateway = open_gateway(config, load_keys(config.gateway, tenant=config.tenant))

    async def __serve_build_asgi_app__(self) -> Any:
        """The HTTP application; Serve runs its start-up and shut-down."""
        from flywheel.gateway.api import build_app

        return build_app(self._gateway, tag_requests=False)

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Take over the routing's address. Never raises: Serve would remove the replica for it."""
        address = str(user_config.get("routing", ""))
        expected = f"routing/{self._gateway.config.flow}"
        if address != expected:
            log.error("user_config names the routing '%s', this gateway's is '%s'; it stays", address, expected)

    def check_health(self) -> None:
        """Raises when a background loop ended."""
        self._gateway.check()


class CaptureReplica:
    """The shipper and the ingester of this machine; a dead or stuck loop makes Serve replace the replica."""

    def __init__(self, path: str) -> None:
        """Start both loops."""
        from flywheel.capture.outbox import outbox_folder
        from flywheel.capture.service import IngesterLoop, ShipperLoop
        from flywheel.lake.keys import Keyring
        from flywheel.lake.tables import open_lake

        config = load_config(path)
        lake = open_lake(config)
        keyring = Keyring(config.home_path()).check_belongs(lake.store)
        self._loops = [
            ShipperLoop(outbox_folder(config), lake.store, config.capture, keyring),
            IngesterLoop(lake, config, keyring),
        ]
        for loop in self._loops:
            loop.start()

    def check_health(self) -> None:
        """Raises when a loop is dead or makes no progress."""
        for loop in self._loops:
            loop.check_health()

    async def state(self) -> dict[str, float]:
        """Seconds since each loop's last successful pass."""
        return {loop.name: loop.silence_s for loop in self._loops}

    async def __del__(self) -> None:
        """Let running passes finish."""
        await asyncio.gather(*(asyncio.to_thread(loop.stop) for loop in getattr(self, "_loops", [])))


class ControllerReplica:
    """Keeps the engines equal to the routing; see ``gateway.reconcile``."""

    def __init__(self, path: str) -> None:
        """Start the loop."""
        from flywheel.capture.service import Loop
        from flywheel.gateway.reconcile import Controller
        from flywheel.inference import engines
        from flywheel.lake.store import ObjectStore

        config = load_config(path)
        settings = config.engine.model_dump(mode="json")
        self._controller = Controller(
            ObjectStore(config.lake_uri(), config.lake.storage_options),
            config,
            statuses=engines.running,
            start=lambda variant: _start_in_task(variant.version, variant.folder, settings),
            stop=engines.stop,
        )
        self._loop = Loop("controller", self._controller.cycle, CONTROLLER_POLL_S)
        self._loop.start()

    def check_health(self) -> None:
        """Raises when the loop is dead or makes no progress."""
        self._loop.check_health()

    async def state(self) -> dict[str, Any]:
        """What runs, and why something does not."""
        return await asyncio.to_thread(self._controller.state)

    async def __del__(self) -> None:
        """Let a running pass finish. The engines stay: requests may be on them."""
        if hasattr(self, "_loop"):
            await asyncio.to_thread(self._loop.stop)


def load_config(path: str) -> FlywheelConfig:
    """The configuration a builder was given."""
    apply_environment()
    return load(FlywheelConfig, Path(path))


def gateway(args: dict[str, str]) -> Any:
    """Serve application ``gateway``."""
    from ray import serve

    from flywheel.gateway.auth import load_keys

    path = path_of(args)
    config = load_config(path)
    load_keys(config.gateway)  # refuse an open gateway here, where the person who deploys sees it
    settings = config.gateway
    deployment: Any = serve.deployment(
        serve.ingress()(GatewayReplica),
        name="Gateway",
        num_replicas=settings.num_replicas,
        max_ongoing_requests=settings.max_ongoing_requests + 64,  # room for feedback and probes when chats are full
        graceful_shutdown_timeout_s=config.engine.request_timeout_s,
        health_check_period_s=5,
        health_check_timeout_s=30,
        user_config=user_config(config),
        ray_actor_options={"num_cpus": CPUS},
    )
    return deployment.bind(path)


def capture(args: dict[str, str]) -> Any:
    """Serve application ``capture``: no route, two supervised loops."""
    return supervised(CaptureReplica, "Capture", path_of(args))


def controller(args: dict[str, str]) -> Any:
    """Serve application ``controller``: no route, one supervised loop."""
    return supervised(ControllerReplica, "Controller", path_of(args))


def ranker(args: dict[str, str]) -> Any:
    """Serve application ``ranker-<version>``: no route, the reward model of ``gateway.ranker``."""
    from flywheel.inference import rankers

    return rankers.application(load_config(path_of(args)).gateway.ranker)


def user_config(config: FlywheelConfig) -> dict[str, str]:
    """All that Serve knows about routing: where the truth is. So a redeploy changes no model."""
    return {"routing": f"routing/{config.flow}"}


def supervised(replica: type, name: str, path: str) -> Any:
    """One replica without a route that Serve replaces when it is not healthy."""
    from ray import serve

    load_config(path)
    deployment: Any = serve.deployment(
        replica,
        name=name,
        num_replicas=1,
        health_check_period_s=5,
        health_check_timeout_s=30,
        ray_actor_options={"num_cpus": CPUS},
    )
    return deployment.bind(path)


def path_of(args: dict[str, str]) -> str:
    """The configuration that a builder is given."""
    path = args.get("config") or os.environ.get(CONFIG_ENV)
    if not path:
        from flywheel.errors import UsageError

        raise UsageError(f"give the configuration: args: {{config: FILE}} in the Serve config, or {CONFIG_ENV}")
    return str(Path(path).resolve())


def _start_in_task(version: str, folder: str, settings: dict[str, Any]) -> None:
    """Deploy from a Ray task, so that neither a crash nor the memory of it is the controller's."""
    import ray

    task = ray.remote(num_cpus=0, max_retries=0)(start_engine)
    ray.get(task.remote(version, folder, settings), timeout=120)


def start_engine(version: str, folder: str, settings: dict[str, Any]) -> None:
    """Body of that task: ask Serve for the engine and return; Serve brings it up."""
    from flywheel.config import EngineConfig
    from flywheel.inference import engines

    apply_environment()
    engines.start(version, folder, EngineConfig.model_validate(settings), wait=False)
