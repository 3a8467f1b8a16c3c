"""Losses: how many events were not kept, by reason, on this machine. Survives the replicas that counted them.

A small SQLite file beside the outboxes. Counts stay in memory until it takes them, so that a full disk delays a
number instead of losing it. ``running`` holds the replicas that work without waiting for their syncs: one that is
still there when its lock is free died with an unknown number of events.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Final

from prometheus_client import Counter as Metric

from flywheel.capture.outbox_file import try_lock
from flywheel.telemetry import CAPTURE_LOST_TOTAL

log = logging.getLogger(__name__)

FILE: Final = "losses.sqlite"
DIED: Final = "died"
"""Reason of replicas (not events) that ended with an unknown number of unsynced events."""

_TABLES: Final = """
create table if not exists lost(flow text not null, reason text not null, events integer not null,
    primary key(flow, reason));
create table if not exists running(outbox_id text primary key);
"""
_ADD: Final = (
    "insert into lost(flow, reason, events) values (?, ?, ?)"
    " on conflict(flow, reason) do update set events = events + excluded.events"
)
_LOST: Final = Metric(CAPTURE_LOST_TOTAL, "Events that were answered but not kept", ["flow", "reason"])


class Losses:
    """Counts of one replica on their way to the file. Any thread may add."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._lock = threading.Lock()
        self._unsaved: Counter[tuple[str, str]] = Counter()

    def add(self, flow: str, reason: str, events: int) -> None:
        """``events`` are lost."""
        _LOST.labels(flow, reason).inc(events)
        with self._lock:
            self._unsaved[flow, reason] += events

    def save(self) -> None:
        """Put what was counted into the file; what it does not take is kept for the next time."""
        with self._lock:
            counted, self._unsaved = self._unsaved, Counter()
        if not counted:
            return
        try:
            with closing(_connect(self._path)) as connection, connection:
                connection.executemany(_ADD, [(*key, events) for key, events in counted.items()])
        except sqlite3.Error as error:
            log.warning("lost events are counted but cannot be written down yet: %s", error)
            with self._lock:
                self._unsaved += counted

    def begin(self, outbox_id: str) -> None:
        """A replica works without waiting for its syncs."""
        with closing(_connect(self._path)) as connection, connection:
            connection.execute("insert or replace into running(outbox_id) values (?)", (outbox_id,))

    def end(self, outbox_id: str) -> None:
        """It ended in order: nothing was in its memory."""
        self.save()
        try:
            with closing(_connect(self._path)) as connection, connection:
                connection.execute("delete from running where outbox_id = ?", (outbox_id,))
        except sqlite3.Error as error:
            log.warning("a replica ended in order and will be called dead: %s", error)


def read_losses(folder: Path, flow: str) -> dict[str, int]:
    """Reason -> lost events of a flow; ``died``: replicas that were killed with an unknown number of events."""
    if not (folder / FILE).exists():
        return {}
    with closing(_connect(folder / FILE)) as connection:
        lost = dict(connection.execute("select reason, events from lost where flow = ?", (flow,)).fetchall())
        names = [name for (name,) in connection.execute("select outbox_id from running")]
    died = sum(_is_dead(folder / f"{name}.lock") for name in names)
    return {**lost, **({DIED: died} if died else {})}


def _is_dead(lock: Path) -> bool:
    handle = try_lock(lock)
    if handle is None:
        return not lock.exists()  # adopted and removed; else its owner lives
    os.close(handle)
    return True


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=5)
    connection.executescript(_TABLES)
    return connection
