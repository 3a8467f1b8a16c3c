"""``flywheel up`` and ``flywheel down``: one supervisor process that holds a Ray head and the Serve apps."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from flywheel.config import FlywheelConfig, dump
from flywheel.errors import FlywheelError, UsageError
from flywheel.lake.tables import open_lake
from flywheel.rollout import promotion, routing
from flywheel.telemetry import Progress, Silent
from flywheel.workflow import cluster

START_TIMEOUT_S = 420.0


@dataclass(frozen=True)
class Running:
    """A running instance of a home."""

    pid: int
    ray_address: str
    url: str
    live: str
    started: str
    fresh: bool


def config_file(config: FlywheelConfig) -> Path:
    """The effective configuration of the running instance, as its processes read it."""
    return config.home_path() / "run" / "config.yaml"


def up(config: FlywheelConfig, *, model: routing.Variant | None = None, progress: Progress | None = None) -> Running:
    """Start gateway, engines and capture, wait until they answer. Running already: returns what runs.

    Args:
        config: the flow's configuration.
        model: what serves first. Counts only while the flow has no routing; later the routing truth decides.
        progress: told what is being waited for.

    Raises:
        UsageError: the flow has no model yet and none was given.
        BusyError: a port is taken.
        FlywheelError: the supervisor ended or did not become ready; names its log.
    """
    progress = progress or Silent()
    running = cluster.read_up(config)
    if running:
        return Running(**{**running, "fresh": False})
    if starting := cluster.read_starting(config):
        return _wait(config, int(starting["pid"]), progress)
    gateway = config.gateway
    if cluster.foreign_address(config) is None:  # on another's cluster our own gateway may be what listens
        cluster.check_port("127.0.0.1", config.cluster.dashboard_port, "Ray's dashboard")
        cluster.check_port(gateway.host, gateway.port, "the gateway")
    cluster.check_disk(config.home_path())
    _first_route(config, model)
    path = config_file(config)
    dump(config, path)
    return _wait(config, _spawn(config, path), progress)


def down(config: FlywheelConfig, *, timeout_s: float = 60) -> bool:
    """Stop the instance of this home, running or starting, by its process id. False: there was none."""
    running = cluster.read_up(config) or cluster.read_starting(config)
    if not running:
        return False
    pid = int(running["pid"])
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if not _alive(pid):
            break
        time.sleep(0.2)
    else:
        os.killpg(pid, signal.SIGKILL)
    cluster.up_file(config).unlink(missing_ok=True)
    cluster.starting_file(config).unlink(missing_ok=True)
    return True


def _first_route(config: FlywheelConfig, model: routing.Variant | None) -> None:
    lake = open_lake(config)
    if routing.current(lake.store, config.flow) is not None:
        return
    if model is None:
        raise UsageError(
            f"The flow '{config.flow}' has no live model yet. Name the first one: flywheel up --model NAME_OR_FOLDER "
            "(the built-in 'tiny' is a start)."
        )
    promotion.start(lake, config, model)


def _spawn(config: FlywheelConfig, path: Path) -> int:
    cluster.prepare_environment(config)
    log = config.home_path() / "run" / "supervisor.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "flywheel.operate.supervisor", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    cluster.write_alive(cluster.starting_file(config), process.pid, text="starting")
    return process.pid


def _wait(config: FlywheelConfig, pid: int, progress: Progress) -> Running:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        info = cluster.read_up(config)
        if info:
            return Running(**{**info, "fresh": True})
        if not _alive(pid):
            raise FlywheelError(f"Flywheel did not start: {_last_words(config)}")
        if starting := cluster.read_starting(config):
            progress.update(0, None, starting["text"])
        time.sleep(0.2)
    os.killpg(pid, signal.SIGTERM)
    raise FlywheelError(
        f"Flywheel was not ready after {START_TIMEOUT_S:.0f} s; see {config.home_path() / 'run' / 'supervisor.log'}."
    )


def _last_words(config: FlywheelConfig) -> str:
    error = config.home_path() / "run" / "error.json"
    log = config.home_path() / "run" / "supervisor.log"
    try:
        return str(json.loads(error.read_text())["message"])
    except (FileNotFoundError, json.JSONDecodeError, KeyError):
        lines = log.read_text(errors="replace").strip().splitlines() or ["it wrote nothing"]
        return f"{lines[-1]} (whole log: {log})"


def _alive(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # our own child would stay as a zombie
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):  # somebody else's: ours has ended
        return False
    return True
