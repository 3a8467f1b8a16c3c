"""Which Ray cluster the work runs on, and how a process joins it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flywheel import telemetry
from flywheel.config import FlywheelConfig
from flywheel.errors import BusyError, EnvironmentProblem, UsageError

NAMESPACE = "flywheel"


def up_file(config: FlywheelConfig) -> Path:
    """Where a running ``flywheel up`` says how to reach it."""
    return config.home_path() / "run" / "up.json"


def read_up(config: FlywheelConfig) -> dict[str, Any] | None:
    """The running instance of this home, or None. A file left by a dead process does not count."""
    path = up_file(config)
    try:
        info = json.loads(path.read_text())
        os.kill(int(info["pid"]), 0)
    except (FileNotFoundError, ProcessLookupError, json.JSONDecodeError, KeyError):
        return None
    return info


def prepare_environment(config: FlywheelConfig) -> None:
    """Quiet libraries, no usage statistics, and a token of this home's own for Ray. Before ``import ray``."""
    telemetry.apply_environment()
    if "RAY_AUTH_MODE" not in os.environ:
        token = config.home_path() / "keys" / "ray-token"
        if not token.exists():
            token.parent.mkdir(parents=True, exist_ok=True)
            _write_private(token, secrets.token_hex(32))
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)
    # A package installed in editable mode is not on the workers' path by itself.
    package_root = str(Path(telemetry.__file__).resolve().parent.parent)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if package_root not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([package_root, *[p for p in paths if p]])


def check_port(host: str, port: int, what: str) -> None:
    """Raise ``BusyError`` when something listens on ``host:port`` already."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise BusyError(
                f"Port {port} on {host} is in use, so {what} cannot start. "
                f"Stop what listens there, or choose another port in the configuration."
            ) from error


def free_port() -> int:
    """A loopback port that nothing listens on now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def check_disk(path: Path, need_mb: int = 500) -> None:
    """Raise ``EnvironmentProblem`` when the disk that holds ``path`` is nearly full."""
    probe = path
    while not probe.exists():
        probe = probe.parent
    free = shutil.disk_usage(probe).free // 2**20
    if free < need_mb:
        raise EnvironmentProblem(
            f"Only {free} MiB are free on the disk of {path}; at least {need_mb} MiB are needed. Free some space."
        )


def start_head(config: FlywheelConfig, *, dashboard_port: int) -> str:
    """Start a Ray head node in this process's care (it ends with it); returns its address."""
    prepare_environment(config)  # Ray reads it when it is imported
    import ray

    check_port("127.0.0.1", dashboard_port, "Ray's dashboard")
    ray.init(
        address="local",
        num_cpus=int(config.cluster.num_cpus),
        object_store_memory=config.cluster.object_store_mb * 2**20,
        include_dashboard=True,
        dashboard_host="127.0.0.1",
        dashboard_port=dashboard_port,
        namespace=NAMESPACE,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )
    return str(ray.get_runtime_context().gcs_address)


@contextlib.contextmanager
def connected(config: FlywheelConfig) -> Iterator[None]:
    """Join the running instance of this home, the configured cluster, or one started for the occasion."""
    prepare_environment(config)  # Ray reads it when it is imported
    import ray

    if ray.is_initialized():
        yield
        return
    running = read_up(config)
    address = running["ray_address"] if running else config.cluster.address
    if address:
        ray.init(address=address, namespace=NAMESPACE, logging_level=logging.ERROR, log_to_driver=False)
        check_lake_is_shared(config, len([node for node in ray.nodes() if node["Alive"]]))
    else:
        start_head(config, dashboard_port=free_port())  # nobody is told this one's address
    _quiet()
    try:
        yield
    finally:
        ray.shutdown()


def check_lake_is_shared(config: FlywheelConfig, nodes: int) -> None:
    """A folder of one machine cannot be the lake of several."""
    if nodes > 1 and "://" not in config.lake_uri():
        raise UsageError(
            f"The lake is the folder {config.lake_uri()}, but the cluster has {nodes} nodes, which do not share it. "
            "Set lake.uri to an object store such as s3://bucket/prefix."
        )


def _quiet() -> None:
    """Our own progress is the only one shown; warnings and errors of the engines still are."""
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    for name in ("ray.data", "ray.serve", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _write_private(path: Path, text: str) -> None:
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
