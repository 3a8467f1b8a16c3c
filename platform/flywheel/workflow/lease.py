"""One turn at a time: a lock that the operating system releases when its holder dies."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from filelock import FileLock, Timeout

from flywheel.config import FlywheelConfig
from flywheel.errors import BusyError


@contextlib.contextmanager
def only_one(config: FlywheelConfig, what: str) -> Iterator[None]:
    """Hold the lock named ``what`` of this home and flow, or raise ``BusyError`` at once."""
    path = config.home_path() / "run" / f"{what}-{config.flow}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise BusyError(f"Another {what} of the flow '{config.flow}' is running. Wait for it, or stop it.") from error
    try:
        yield
    finally:
        lock.release()
