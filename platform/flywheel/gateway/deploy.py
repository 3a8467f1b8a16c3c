"""Deploying the whole set of processes: as a Serve config file, or from Python with the same content."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flywheel.config import FlywheelConfig
from flywheel.errors import FlywheelError, UsageError
from flywheel.gateway.apps import user_config
from flywheel.gateway.auth import load_keys
from flywheel.gateway.outcomes.telling import ROLLOUT_APP
from flywheel.inference.engines import APP_PREFIX as ENGINES
from flywheel.inference.rankers import APP_PREFIX as RANKERS
from flywheel.inference.rankers import app_name

APPS = ("gateway", "capture", "controller")
MODULE = "flywheel.gateway.apps"
READY_TIMEOUT_S = 180.0
BAD = ("DEPLOY_FAILED", "UNHEALTHY")


def serve_config(config_path: Path | str, config: FlywheelConfig) -> dict[str, Any]:
    """The Serve config (``ServeDeploySchema``) of a configuration file; ``configs/*/serve.yaml`` are written from it.

    Args:
        config_path: as the processes of the cluster find it.
        config: its content.

    Raises:
        UsageError: the gateway would listen beyond this machine without API keys.
    """
    load_keys(config.gateway)
    args = {"config": str(config_path)}
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": config.gateway.host, "port": config.gateway.port},
        "logging_config": {"log_level": "WARNING", "enable_access_log": False},
        "applications": [
            {
                "name": name,
                "route_prefix": "/" if name == "gateway" else None,
                "import_path": f"{MODULE}:{name}",
                "args": dict(args),
                **(
                    {"deployments": [{"name": "Gateway", "user_config": user_config(config)}]}
                    if name == "gateway"
                    else {}
                ),
            }
            for name in APPS
        ]
        + _rollout(config, args)
        + _ranker(config, args),
    }


def deploy(config_path: Path | str, config: FlywheelConfig, *, timeout_s: float = READY_TIMEOUT_S) -> None:
    """Deploy gateway, capture and controller on the cluster this process is connected to, and wait for them.

    Engines follow: the controller starts what the routing names. Deploying again changes no model.

    Raises:
        UsageError: see ``serve_config``.
        FlywheelError: an application failed to start, with Serve's reason, or needs longer than ``timeout_s``.
    """
    from ray import serve
    from ray.serve.context import _get_global_client
    from ray.serve.schema import ServeDeploySchema

    content = serve_config(Path(config_path).resolve(), config)
    if config.gateway.ingress == "haproxy":
        check_ingress(_worker_environment())
    serve.start(proxy_location=content["proxy_location"], http_options=content["http_options"])
    client = _get_global_client()
    assert client is not None, "serve.start() connects to Serve"
    client.deploy_apps(ServeDeploySchema.model_validate(content))
    _wait(timeout_s, [app["name"] for app in content["applications"]])


def withdraw(config: FlywheelConfig) -> None:
    """Remove from a cluster that others may use too what ``deploy`` put there, and the engines and rankers of models.

    The gateway first, so that no request meets an engine that is gone.
    """
    from ray import serve

    running = set(serve.status().applications)
    ours = [app["name"] for app in [*_rollout(config, {}), *_ranker(config, {})]]
    models = sorted(name for name in running if name.startswith((ENGINES, RANKERS)))
    for name in dict.fromkeys([*APPS, *ours, *models]):
        if name in running:
            serve.delete(name)


def check_ingress(environment: Mapping[str, str]) -> None:
    """Return when Ray's processes have the environment that HAProxy needs, see ``inference.ingress``.

    Raises:
        UsageError: this cluster was started without it.
    """
    if environment.get("RAY_SERVE_ENABLE_HA_PROXY") != "1" or "RAY_SERVE_HAPROXY_BINARY_PATH" not in environment:
        raise UsageError(
            "gateway.ingress is haproxy, but this Ray cluster was started without it; before 'ray start', on every "
            'node: eval "$(python -m flywheel.inference.ingress .flywheel)", or set gateway.ingress to proxy'
        )


def _worker_environment() -> dict[str, str]:
    import ray

    return ray.get(ray.remote(num_cpus=0)(lambda: dict(os.environ)).remote(), timeout=120)


def _rollout(config: FlywheelConfig, args: dict[str, str]) -> list[dict[str, Any]]:
    """The rollout's controller, where candidates go live in steps."""
    if not config.rollout.canary_steps:
        return []
    app = {"name": ROLLOUT_APP, "route_prefix": None, "import_path": "flywheel.operate.rollout_app:rollout"}
    return [{**app, "args": dict(args)}]


def _ranker(config: FlywheelConfig, args: dict[str, str]) -> list[dict[str, Any]]:
    """The application of ``gateway.ranker``, under its version's name: a new version is a new application."""
    version = config.gateway.ranker.name()
    if version is None:
        return []
    app = {"name": app_name(version), "route_prefix": None, "import_path": f"{MODULE}:ranker", "args": dict(args)}
    return [app]


def _wait(timeout_s: float, names: Sequence[str]) -> None:
    from ray import serve

    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        apps = serve.status().applications
        states = {name: apps[name].status.value if name in apps else "NOT_STARTED" for name in names}
        if all(state == "RUNNING" for state in states.values()):
            return
        failed = next((name for name, state in states.items() if state in BAD), None)
        if failed:
            raise FlywheelError(f"the {failed} application did not start: {_reason(apps[failed].message)}")
        time.sleep(0.1)
    raise FlywheelError(f"the Serve applications were not ready in {timeout_s:g} s; look into Ray's logs")


def _reason(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return lines[-1] if lines else "Serve gave no reason; look into Ray's logs"
