"""The file of an outbox: its place, its tables, its lock, and the statements that write it.

One SQLite file a replica, in WAL mode with ``synchronous=FULL``: a commit returns after the log is synced. An
exclusive ``flock`` on ``<id>.lock`` says that the owner is alive; the operating system drops it when the process
dies, whatever killed it, and a shipper then adopts the file.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from uuid6 import uuid7

from flywheel.capture.events import Event
from flywheel.config import FlywheelConfig

BUSY_TIMEOUT_S: Final = 30.0
"""How long a writer waits for the other one (owner and shipper take turns of a few milliseconds)."""

FORMAT: Final = 1
"""``user_version`` of the files made here. Files of 0 have the same tables; a higher number is a newer program's."""

TABLES: Final = f"""
create table if not exists events(
    seq integer primary key autoincrement, flow text not null, event_id text not null, kind text not null,
    tenant text not null, ts integer not null, body text not null);
create index if not exists events_by_flow on events(flow, seq);
create table if not exists open_requests(
    inference_id text primary key, flow text not null, tenant text not null, ts integer not null, body text not null);
create table if not exists seals(flow text not null, lo integer not null, hi integer not null, primary key(flow, lo));
create table if not exists sealed(flow text primary key, hi integer not null);
pragma user_version = {FORMAT};
"""
# autoincrement: a number is never used again, even after its row was shipped and deleted

_WAL_KEPT: Final = 16 * 2**20
_MAX_ROWS: Final = 64
_ADD: Final = "insert into events(flow, event_id, kind, tenant, ts, body) values "
_OPEN: Final = "insert or replace into open_requests(inference_id, flow, tenant, ts, body) values "
_CLOSE: Final = "delete from open_requests where inference_id in "

Row = tuple[Any, ...]


def outbox_folder(config: FlywheelConfig) -> Path:
    """Where the outboxes of this machine lie; put ``home`` on a persistent volume."""
    return config.home_path() / "outbox"


def event_row(event: Event) -> Row:
    """The values of ``events`` for one event."""
    micros = int(event.ts.timestamp() * 1_000_000)
    return event.flow, event.event_id, event.kind, event.tenant, micros, event.body


def write(
    connection: sqlite3.Connection, *, opened: Sequence[Row], closed: Sequence[str], events: Sequence[Row]
) -> None:
    """One transaction; returns after the sync. Nothing of it is kept when it raises.

    Many rows go in one statement: each statement gives the interpreter's lock away, and a busy event loop
    hands it back milliseconds later.
    """
    try:
        connection.execute("begin immediate")
        _insert(connection, _OPEN, opened)
        for ids in _parts(closed):
            connection.execute(f"{_CLOSE}({','.join('?' * len(ids))})", ids)
        _insert(connection, _ADD, events)
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:
            connection.execute("rollback")
        raise


def probe(connection: sqlite3.Connection) -> None:
    """A write that changes nothing, synced: raises while the disk takes none."""
    connection.execute(f"pragma user_version = {FORMAT}")


def connect(path: Path, *, create: bool = False) -> sqlite3.Connection:
    """Open an outbox file in autocommit mode, every commit synced. Without ``create`` a missing file is an error."""
    address = f"{path.resolve().as_uri()}?mode={'rwc' if create else 'rw'}"
    connection = sqlite3.connect(
        address,
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=4 * _MAX_ROWS,
    )
    try:
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        connection.execute(f"pragma journal_size_limit = {_WAL_KEPT}")  # a long log is cut once it is written back
    except BaseException:
        connection.close()
        raise
    return connection


def used_bytes(connection: sqlite3.Connection) -> int:
    """Bytes of the file that hold something; what was shipped leaves free pages, which are filled again."""
    values = [connection.execute(f"pragma {name}").fetchone()[0] for name in ("page_count", "freelist_count")]
    return (values[0] - values[1]) * connection.execute("pragma page_size").fetchone()[0]


def is_outbox_id(name: str) -> bool:
    """Whether a file of this name (without suffix) is an outbox; whatever else lies in the folder is left alone."""
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False


def try_lock(path: Path, *, create: bool = False) -> int | None:
    """Take the lock of an outbox; None while its owner lives, or when the file is not there (any more)."""
    try:
        handle = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.stat().st_ino == os.fstat(handle).st_ino:
            return handle
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(handle)
    return None


def claim(folder: Path) -> tuple[str, int]:
    """A fresh id whose lock is ours. A shipper may grab a new lock file first: then take another id."""
    while True:
        outbox_id = str(uuid7())
        lock = try_lock(folder / f"{outbox_id}.lock", create=True)
        if lock is not None:
            return outbox_id, lock


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _insert(connection: sqlite3.Connection, sql: str, rows: Sequence[Row]) -> None:
    for part in _parts(rows):
        one = f"({','.join('?' * len(part[0]))})"
        connection.execute(sql + ",".join([one] * len(part)), tuple(chain.from_iterable(part)))


def _parts(rows: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (rows[start : start + _MAX_ROWS] for start in range(0, len(rows), _MAX_ROWS))
