"""One turn at a time: a lease in the lake for all machines, and a file lock for what this machine knows for sure.

The operating system lets go of a file lock when its holder dies. Whoever gets the lock of a home, and finds there
the token of a lease that has not expired, knows that its holder is dead and need not wait for the expiry.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from flywheel.config import FlywheelConfig
from flywheel.errors import LeaseHeldError
from flywheel.lake.lease import Held, Holder, Lease
from flywheel.lake.tables import open_lake
from flywheel.records import utcnow

EVALUATING: Final = "evaluation"
"""Whoever evaluates, judges or mines holds it: no erasure may run meanwhile, for they hold rows in memory and store
what they made of them. And two at once would ask the same model the same questions."""
RANKING: Final = "ranker"
"""Whoever trains or judges a ranker holds it: likewise."""
PATIENCE_S = 1.0
"""``running`` holds the file lock for a moment; a taker waits that long for it."""


@contextlib.contextmanager
def only_one(config: FlywheelConfig, what: str) -> Iterator[Held]:
    """Hold ``what`` of this flow, on whatever machine; ask ``check`` of the result before each piece of work.

    Raises:
        LeaseHeldError: somebody holds it; names who, and since when.
    """
    lease, noted = _lease(config, what), _token_file(config, what)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_lock(config, what).acquire(timeout=PATIENCE_S, poll_interval=0.05))
            held = lease.take(_me(), dead=lambda holder: holder.token == _read(noted))
        except (Timeout, LeaseHeldError) as error:
            last = lease.current()
            who = last if last is not None and last.holds(utcnow()) else "another process of this machine, just started"
            raise LeaseHeldError(
                f"Another {what} of the flow '{config.flow}' is running: {who}. Wait for it, or stop it."
            ) from error
        noted.write_text(held.holder.token)
        stack.enter_context(held)
        yield held


def running(config: FlywheelConfig, what: str) -> Holder | None:
    """Who holds ``what`` of this flow now. A holder of this home that died does not count."""
    holder = _lease(config, what).current()
    if holder is None or not holder.holds(utcnow()):
        return None
    if holder.token == _read(_token_file(config, what)):
        with contextlib.suppress(Timeout), _lock(config, what).acquire(timeout=0):
            return None
    return holder


def _lease(config: FlywheelConfig, what: str) -> Lease:
    return Lease(open_lake(config).store, f"{config.flow}/{what}")


def _lock(config: FlywheelConfig, what: str) -> FileLock:
    return FileLock(_run_folder(config) / f"{what}-{config.flow}.lock")


def _token_file(config: FlywheelConfig, what: str) -> Path:
    """The token of the last lease taken under the file lock (which empties its own file)."""
    return _run_folder(config) / f"{what}-{config.flow}.token"


def _run_folder(config: FlywheelConfig) -> Path:
    folder = config.home_path() / "run"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _read(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def _me() -> str:
    return f"{os.environ.get('USER', 'operator')}@{socket.gethostname()} (process {os.getpid()})"
