"""Processes of the gateway benchmark: started and ended by id, and what they used of processor and memory."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psutil

HERE = Path(__file__).resolve().parent
PACKAGE_ROOT = HERE.parent / "platform"


def free_port() -> int:
    """A loopback port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def python_path(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment in which this checkout's package and these scripts can be imported."""
    found = dict(os.environ if environment is None else environment)
    return {**found, "PYTHONPATH": f"{PACKAGE_ROOT}{os.pathsep}{HERE}"}


def start(
    command: Sequence[str | Path], log: Path, *, environment: Mapping[str, str] | None = None, pipes: bool = False
) -> subprocess.Popen[str]:
    """A process in a group of its own; what it says goes to ``log`` (with ``pipes``, only its stderr)."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as said:
        return subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
            stdout=subprocess.PIPE if pipes else said,
            stderr=said,
            env=dict(environment) if environment is not None else python_path(),
            start_new_session=True,
            text=True,
        )


def stop(process: subprocess.Popen[str], patience_s: float = 30.0) -> None:
    """End a process and its children: asked first, killed after ``patience_s``."""
    tree = family([process.pid])
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(patience_s)
    for one in tree:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()


def wait_http(url: str, process: subprocess.Popen[str], seconds: float) -> None:
    """Until ``url`` answers 200.

    Raises:
        RuntimeError: the process ended, or was not ready in time.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"it ended with code {process.returncode}")
        with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.2)
    raise RuntimeError(f"it was not ready in {seconds:g} s")


def family(pids: Iterable[int]) -> list[psutil.Process]:
    """These processes and all that descend from them."""
    found: dict[int, psutil.Process] = {}
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            found.update({one.pid: one for one in (process, *process.children(recursive=True))})
    return list(found.values())


def cpu_s(pids: Iterable[int]) -> float:
    """Seconds of processor that the processes and their descendants have used so far."""
    total = 0.0
    for process in family(pids):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def rss_mb(pids: Iterable[int]) -> float:
    """Resident memory of the processes and their descendants."""
    total = 0
    for process in family(pids):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total / 2**20


def named(parent: int, *words: str) -> list[int]:
    """Descendants of a process in whose command line one of the words occurs."""
    found = []
    for process in psutil.Process(parent).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if any(word in " ".join(process.cmdline()) for word in words):
                found.append(process.pid)
    return found


def load_average() -> float:
    """Of the last minute; above the number of cores others were at work."""
    return round(os.getloadavg()[0], 2)


def own_python() -> str:
    """The interpreter of this process, for those it starts."""
    return sys.executable
