"""The outbox: the durable log of one gateway replica. What it acknowledged is on the disk.

One SQLite file a replica, in WAL mode with ``synchronous=FULL``: a commit returns after the log is
synced. One writer thread serves all callers; those that arrive while it waits share one sync
(group commit). An exclusive ``flock`` on ``<id>.lock`` says that the owner is alive; the operating
system drops it when the process dies, whatever killed it, and a shipper then adopts the file.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from prometheus_client import Histogram
from uuid6 import uuid7

from flywheel.capture.events import Event, to_event
from flywheel.config import FlywheelConfig
from flywheel.errors import CaptureError
from flywheel.records import Inference
from flywheel.telemetry import OUTBOX_SYNC_SECONDS

MAX_GROUP = 2_000
"""Calls that share one sync at the most; bounds the memory and time of one transaction."""

BUSY_TIMEOUT_S = 30.0
"""How long a writer waits for the other one (owner and shipper take turns of a few milliseconds)."""

TABLES = """
create table if not exists events(
    seq integer primary key autoincrement, flow text not null, event_id text not null, kind text not null,
    tenant text not null, ts integer not null, body text not null);
create index if not exists events_by_flow on events(flow, seq);
create table if not exists open_requests(
    inference_id text primary key, flow text not null, tenant text not null, ts integer not null, body text not null);
create table if not exists seals(flow text not null, lo integer not null, hi integer not null, primary key(flow, lo));
create table if not exists sealed(flow text primary key, hi integer not null);
"""
# autoincrement: a number is never used again, even after its row was shipped and deleted

_ADD = "insert into events(flow, event_id, kind, tenant, ts, body) values (?, ?, ?, ?, ?, ?)"
_OPEN = "insert or replace into open_requests(inference_id, flow, tenant, ts, body) values (?, ?, ?, ?, ?)"
_CLOSE = "delete from open_requests where inference_id = ?"

_SYNC_SECONDS = Histogram(
    OUTBOX_SYNC_SECONDS,
    "Seconds of one group commit",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)

Statement = tuple[str, tuple[Any, ...]]


class _Job(NamedTuple):
    statements: list[Statement]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]


def outbox_folder(config: FlywheelConfig) -> Path:
    """Where the outboxes of this machine lie; put ``home`` on a persistent volume."""
    return config.home_path() / "outbox"


def event_row(event: Event) -> tuple[str, str, str, str, int, str]:
    """The values of ``events`` for one event."""
    micros = int(event.ts.timestamp() * 1_000_000)
    return event.flow, event.event_id, event.kind, event.tenant, micros, event.body


def add_statement(event: Event) -> Statement:
    """The insertion of one event."""
    return _ADD, event_row(event)


class Outbox:
    """One replica's log. Awaiting a method returns after the sync; an exception means: not acknowledged."""

    @classmethod
    def open(cls, folder: Path, *, group_commit_ms: float = 2.0) -> Self:
        """Start a new outbox in ``folder`` (made if missing).

        Args:
            folder: shared by the replicas and the shipper of one machine.
            group_commit_ms: how long a write waits for others to share its sync.

        Raises:
            CaptureError: the file cannot be made (no rights, disk full).
        """
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            outbox_id, lock = _claim(folder)
            connection = connect(folder / f"{outbox_id}.db", create=True)
            connection.executescript(TABLES)
            _sync_folder(folder)
        except (sqlite3.Error, OSError) as error:
            raise CaptureError(f"no outbox can be made in {folder}; check space and rights there: {error}") from error
        return cls(outbox_id, connection, lock, group_commit_ms)

    def __init__(self, outbox_id: str, connection: sqlite3.Connection, lock: int, group_commit_ms: float) -> None:
        self.outbox_id = outbox_id
        self._connection, self._lock, self._wait_s = connection, lock, group_commit_ms / 1000
        self._jobs: deque[_Job] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._writer = threading.Thread(target=self._write_forever, name=f"outbox-{outbox_id[-6:]}", daemon=True)
        self._writer.start()

    async def append(self, events: Sequence[Event]) -> None:
        """Make events durable, all of them or none.

        Raises:
            CaptureError: they are not durable (disk full, I/O error, closed); nothing was acknowledged.
        """
        if events:
            await self._submit([add_statement(event) for event in events])

    async def open_request(self, inference: Inference) -> None:
        """Make a request durable before the first byte of its answer. See ``complete``."""
        event = to_event(inference, flow=inference.flow, tenant=inference.tenant)
        flow, inference_id, _, tenant, micros, body = event_row(event)
        await self._submit([(_OPEN, (inference_id, flow, tenant, micros, body))])

    async def complete(self, inference: Inference) -> None:
        """Replace an open request by its inference, in one transaction.

        If the replica dies before this, the request becomes an inference with finish reason ``interrupted``.
        """
        event = to_event(inference, flow=inference.flow, tenant=inference.tenant)
        await self._submit([(_CLOSE, (inference.inference_id,)), add_statement(event)])

    def close(self) -> None:
        """Write what was submitted, release the file. The shipper takes over what is left in it."""
        with self._wake:
            if self._closing:
                return
            self._closing = True
            self._wake.notify()
        self._writer.join()
        self._connection.close()
        os.close(self._lock)

    async def _submit(self, statements: list[Statement]) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        with self._wake:
            if self._closing:
                raise CaptureError("the outbox is closed because the replica stops; send the request again")
            self._jobs.append(_Job(statements, loop, done))
            self._wake.notify()
        await done

    def _write_forever(self) -> None:
        while jobs := self._gather():
            started = time.perf_counter()
            for job, error in self._commit(jobs):
                _resolve(job, error)
            _SYNC_SECONDS.observe(time.perf_counter() - started)

    def _gather(self) -> list[_Job]:
        """Wait for a job, then a moment for others. Empty: closed and nothing is left."""
        with self._wake:
            while not self._jobs and not self._closing:
                self._wake.wait()
        if self._wait_s and not self._closing:
            time.sleep(self._wait_s)
        with self._wake:
            return [self._jobs.popleft() for _ in range(min(len(self._jobs), MAX_GROUP))]

    def _commit(self, jobs: list[_Job]) -> list[tuple[_Job, Exception | None]]:
        try:
            self._transaction([statement for job in jobs for statement in job.statements])
        except sqlite3.OperationalError as error:  # disk full, I/O error, locked: the same for every caller
            return [(job, error) for job in jobs]
        except Exception as error:  # noqa: BLE001 - a caller must never wait for ever on a dead writer
            if len(jobs) == 1:
                return [(jobs[0], error)]
            return [outcome for job in jobs for outcome in self._commit([job])]  # one bad row must not fail the others
        return [(job, None) for job in jobs]

    def _transaction(self, statements: list[Statement]) -> None:
        try:
            self._connection.execute("begin immediate")
            for sql, values in statements:
                self._connection.execute(sql, values)
            self._connection.execute("commit")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("rollback")
            raise


def connect(path: Path, *, create: bool = False) -> sqlite3.Connection:
    """Open an outbox file in autocommit mode, every commit synced. Without ``create`` a missing file is an error."""
    address = f"{path.resolve().as_uri()}?mode={'rwc' if create else 'rw'}"
    connection = sqlite3.connect(
        address, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = full")
    return connection


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


def _claim(folder: Path) -> tuple[str, int]:
    """A fresh id whose lock is ours. A shipper may grab a new lock file first: then take another id."""
    while True:
        outbox_id = str(uuid7())
        lock = try_lock(folder / f"{outbox_id}.lock", create=True)
        if lock is not None:
            return outbox_id, lock


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _resolve(job: _Job, error: Exception | None) -> None:
    def settle() -> None:
        if job.done.done():  # the caller was cancelled
            return
        if error is None:
            job.done.set_result(None)
        else:
            problem = CaptureError(f"the event could not be stored and was not acknowledged; check disk space: {error}")
            problem.__cause__ = error
            job.done.set_exception(problem)

    if not job.loop.is_closed():
        try:
            job.loop.call_soon_threadsafe(settle)
        except RuntimeError:
            return  # the loop closed in between: nobody waits any more
