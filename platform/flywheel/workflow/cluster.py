"""Which Ray cluster the work runs on, and how a process joins it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import secrets
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from flywheel import telemetry
from flywheel.config import FlywheelConfig
from flywheel.errors import BusyError, EnvironmentProblem
from flywheel.inference.ingress import serve_environment
from flywheel.workflow.failures import explained, is_of_ray
from flywheel.workflow.shared import check_shared

NAMESPACE = "flywheel"
CLOCK_S = 2.0
"""A process's time of birth is told anew after the clock was set: by so much it may differ."""
PACKAGE = Path(telemetry.__file__).resolve().parent


def up_file(config: FlywheelConfig) -> Path:
    """Where a running ``flywheel up`` says how to reach it."""
    return config.home_path() / "run" / "up.json"


def starting_file(config: FlywheelConfig) -> Path:
    """Where a ``flywheel up`` that is not ready yet says who it is and what it waits for."""
    return config.home_path() / "run" / "starting.json"


def read_up(config: FlywheelConfig) -> dict[str, Any] | None:
    """The running instance of this home, or None. A file left by a dead process does not count."""
    return _read_alive(up_file(config))


def read_starting(config: FlywheelConfig) -> dict[str, Any] | None:
    """The instance of this home that is starting: ``{"pid", "text"}``, or None."""
    return _read_alive(starting_file(config))


def write_alive(path: Path, pid: int, **told: Any) -> None:
    """Note what a process says of itself, so that ``read_up`` and ``read_starting`` find it as long as it lives."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({"pid": pid, "born": _born(pid), **told}))
    temporary.replace(path)


def _read_alive(path: Path) -> dict[str, Any] | None:
    try:
        info = json.loads(path.read_text())
        born = _born(int(info["pid"]))
    except (FileNotFoundError, json.JSONDecodeError, KeyError):
        return None
    # After a restart of the machine, or of a container, the number may be somebody else's.
    noted = info.pop("born", born)
    return None if born is None or noted is None or abs(born - noted) > CLOCK_S else info


def _born(pid: int) -> float | None:
    """When a process began, in seconds since the epoch; None where there is none."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return None


def prepare_environment(config: FlywheelConfig) -> None:
    """Quiet libraries, no usage statistics, and a token of this home's own for Ray. Before ``import ray``.

    A cluster that somebody else started keeps its own way to authenticate.
    """
    telemetry.apply_environment()
    if not read_up(config) and foreign_address(config) is None:  # the cluster that will be ours
        os.environ.update(serve_environment(config.gateway.ingress, home=config.home_path(), free_port=free_port))
    if "RAY_AUTH_MODE" not in os.environ and (read_up(config) or foreign_address(config) is None):
        token = config.home_path() / "keys" / "ray-token"
        if not token.exists():
            token.parent.mkdir(parents=True, exist_ok=True)
            _write_private(token, secrets.token_hex(32))
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)
    # A package installed in editable mode is not on the workers' path by itself.
    package_root = str(PACKAGE.parent)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if package_root not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([package_root, *[p for p in paths if p]])


def foreign_address(config: FlywheelConfig) -> str | None:
    """Address of the cluster to use if this home has none of its own running: the configured, or a Ray job's."""
    return config.cluster.address or os.environ.get("RAY_ADDRESS")


def shipped() -> dict[str, Any]:
    """The runtime environment of work on a cluster that this process did not start: this very package, quiet."""
    return {"py_modules": [str(PACKAGE)], "env_vars": telemetry.quiet_environment()}


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
    """A loopback port that nothing listens on now.

    Not one of those that the kernel hands out (from 32768 on) or Ray's workers take (10002 to 19999): Ray asks for
    several more of its own before it binds this one, and refuses to start where one port came twice.
    """
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise EnvironmentProblem("None of 100 loopback ports between 20000 and 32000 is free; stop what listens there.")


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
    """Join the running instance of this home, the configured cluster, or one started for the occasion.

    What Ray raises within is raised as one of our errors.
    """
    prepare_environment(config)  # Ray reads it when it is imported
    import ray

    if ray.is_initialized():
        yield
        return
    running, foreign = read_up(config), foreign_address(config)
    try:
        if running or foreign:
            _join(running["ray_address"] if running else str(foreign), None if running else shipped())
            check_shared(config)
        else:
            start_head(config, dashboard_port=free_port())  # nobody is told this one's address
        _quiet()
        yield
    except Exception as error:
        if is_of_ray(error):
            raise explained(error) from error
        raise
    finally:
        ray.shutdown()


def _join(address: str, runtime_env: dict[str, Any] | None) -> None:
    import ray

    try:
        ray.init(
            address=address,
            runtime_env=runtime_env,
            namespace=NAMESPACE,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    except ConnectionError as error:
        raise EnvironmentProblem(
            f"No Ray cluster answers at '{address}' ({error}); start it, or correct cluster.address"
        ) from error


def _quiet() -> None:
    """Our own progress is the only one shown; warnings and errors of the engines still are."""
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    for name in ("ray.serve", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # its errors are raised as well, and kept in its log file


def _write_private(path: Path, text: str) -> None:
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
