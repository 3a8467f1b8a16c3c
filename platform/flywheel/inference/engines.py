"""Engines by version: start, stop, list. One Serve application each, deployed imperatively beside the gateway.

Imperative on purpose: a declarative redeploy of the gateway leaves these apps alone, and starting one touches
no other. Nothing here imports vLLM or torch; only the replica does (see ``server.py``).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from flywheel.config import EngineConfig
from flywheel.errors import EngineError
from flywheel.inference import users
from flywheel.inference.models import check_model_folder

APP_PREFIX = "engine-"
FAILED = ("DEPLOY_FAILED", "UNHEALTHY")


def app_name(version: str) -> str:
    """The Serve application of a model version."""
    return f"{APP_PREFIX}{version}"


def start(version: str, folder: str, config: EngineConfig, *, wait: bool = True) -> None:
    """Make sure the engine of ``version`` runs. Running or starting already: nothing is redeployed.

    Args:
        version: name of the model version.
        folder: its weights, a local folder or an address that the engine can download.
        config: how to serve it.
        wait: return only when it answers.

    Raises:
        ModelError: the folder cannot be served.
        EngineError: it failed to start, or was not ready in ``config.start_timeout_s``.
    """
    if "://" not in folder:
        check_model_folder(Path(folder))
    if running().get(app_name(version), "NOT_STARTED") in {"NOT_STARTED", "DEPLOY_FAILED", "DELETING"}:
        _deploy(version, folder, config)
    if wait:
        wait_ready(version, config.start_timeout_s)


def wait_ready(version: str, timeout_s: float) -> None:
    """Block until the engine answers.

    Raises:
        EngineError: it failed, is not there, or needs longer than ``timeout_s`` seconds.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        status, message = _status(app_name(version))
        if status == "RUNNING":
            return
        if status in FAILED:
            raise EngineError(f"the engine of '{version}' failed to start: {_last_line(message)}")
        time.sleep(0.1)
    raise EngineError(
        f"the engine of '{version}' was not ready in {timeout_s:g} s; "
        "raise engine.start_timeout_s or look into Ray's logs"
    )


def stop(version: str) -> bool:
    """Remove the engine of ``version`` unless somebody uses it (``users.using``). Take it out of the routing first.

    Returns:
        Whether nobody uses it, so that it is gone now.
    """
    from ray import serve

    with users.stopping(version) as unused:
        if unused and app_name(version) in running():
            serve.delete(app_name(version))
    return unused


def running() -> dict[str, str]:
    """Status of every engine application, by application name: DEPLOYING, RUNNING, DEPLOY_FAILED, ..."""
    from ray import serve

    applications = serve.status().applications
    return {name: app.status.value for name, app in applications.items() if name.startswith(APP_PREFIX)}


def _status(name: str) -> tuple[str, str]:
    from ray import serve

    app = serve.status().applications.get(name)
    return (app.status.value, app.message) if app else ("NOT_STARTED", "")


def _deploy(version: str, folder: str, config: EngineConfig) -> None:
    from ray import serve

    # Engines are reached through handles only: without a gateway nothing listens. A running Serve stays as it is.
    serve.start(proxy_location="Disabled")
    app = application(version, folder, config)
    serve.run_many(
        [serve.RunTarget(app, name=app_name(version), route_prefix=None)],
        wait_for_ingress_deployment_creation=True,
        wait_for_applications_running=False,
    )


def application(version: str, folder: str, config: EngineConfig) -> Any:
    """The unbound-to-a-cluster Serve application of one engine."""
    from ray import serve

    from flywheel.inference.server import EngineServer, bundles

    deployment: Any = serve.deployment(
        EngineServer,
        name="engine",
        num_replicas=config.num_replicas,
        max_ongoing_requests=config.max_ongoing_requests,
        health_check_period_s=10,
        health_check_timeout_s=60,  # a busy small machine is slow, not dead
        graceful_shutdown_timeout_s=config.request_timeout_s,
        max_constructor_retry_count=2,  # a model that does not load will not load the twentieth time either
        placement_group_bundles=bundles(config),
        placement_group_strategy="PACK",
        ray_actor_options={"num_cpus": config.num_cpus},
    )
    return deployment.bind(version, folder, config.model_dump(mode="json"))


def _last_line(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return lines[-1] if lines else "no message; look into Ray's logs"
