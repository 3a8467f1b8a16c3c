"""The outbox: the durable log of one gateway replica. What it acknowledged is on the disk.

One writer thread serves all callers; those that arrive while it waits share one sync (group commit). What waits for
the sync is bounded; a file, a disk or a queue without room is known before a request is let in (``refusal``).
See ``outbox_file`` for the file and ``recorder`` for the modes built on this.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from prometheus_client import Histogram

from flywheel.capture import outbox_file
from flywheel.capture.events import Event, to_event
from flywheel.capture.outbox_file import connect, outbox_folder, try_lock
from flywheel.capture.room import QUEUE, Limits, Refusal
from flywheel.config import CaptureConfig, CaptureMode
from flywheel.errors import CaptureError
from flywheel.records import Inference
from flywheel.telemetry import OUTBOX_SYNC_SECONDS

__all__ = ["Outbox", "connect", "outbox_folder", "try_lock"]

MAX_GROUP: Final = 2_000
"""Calls that share one sync at the most; bounds the memory and time of one transaction."""

LOOK_S: Final = 0.5
"""How old the knowledge about the disk may be while events are written or refused."""

_SYNC_SECONDS = Histogram(
    OUTBOX_SYNC_SECONDS,
    "Seconds of one group commit",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)

Failed = Callable[[Exception], None]


class _Own(NamedTuple):
    """What an owner holds."""

    folder: Path
    outbox_id: str
    connection: sqlite3.Connection
    lock: int


class _Job(NamedTuple):
    """What one caller wants written, its characters of text, and who learns what came of it."""

    events: Sequence[outbox_file.Row]
    opened: Sequence[outbox_file.Row]
    closed: Sequence[str]
    size: int
    waiter: asyncio.Future[None] | None
    failed: Failed | None


def _job(
    events: Sequence[outbox_file.Row],
    *,
    opened: Sequence[outbox_file.Row] = (),
    closed: Sequence[str] = (),
    waiter: asyncio.Future[None] | None = None,
    failed: Failed | None = None,
) -> _Job:
    size = sum(len(row[-1]) for row in events) + sum(len(row[-1]) for row in opened)
    return _Job(events, opened, closed, size, waiter, failed)


class Outbox:
    """One replica's log. Awaiting a method returns after the sync; an exception means: not acknowledged."""

    mode: CaptureMode = "durable"

    @classmethod
    def open(cls, folder: Path, *, group_commit_ms: float = 2.0, config: CaptureConfig | None = None) -> Self:
        """Start a new outbox in ``folder`` (made if missing).

        Args:
            folder: shared by the replicas and the shipper of one machine.
            group_commit_ms: how long a write waits for others to share its sync.
            config: bounds of queue and disk.

        Raises:
            CaptureError: the file cannot be made (no rights, disk full).
        """
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            outbox_id, lock = outbox_file.claim(folder)
            connection = connect(folder / f"{outbox_id}.db", create=True)
            connection.executescript(outbox_file.TABLES)
            outbox_file.sync_folder(folder)
        except (sqlite3.Error, OSError) as error:
            raise CaptureError(f"no outbox can be made in {folder}; check space and rights there: {error}") from error
        own = _Own(folder, outbox_id, connection, lock)
        return cls(own, Limits.of(config or CaptureConfig()), wait_s=group_commit_ms / 1000)

    def __init__(self, own: _Own, limits: Limits, *, wait_s: float) -> None:
        self.outbox_id = own.outbox_id
        self._folder, self._connection, self._lock = own.folder, own.connection, own.lock
        self._wait_s, self._limits = wait_s, limits
        self._jobs: deque[_Job] = deque()
        self._events, self._size = 0, 0  # of all jobs whose sync is not done
        self._wake = threading.Condition()
        self._closing = False
        self._broken: Exception | None = None
        self._looked = float("-inf")
        self._disk: Refusal | None = None
        self._look()
        self._writer = threading.Thread(target=self._write_forever, name=f"outbox-{own.outbox_id[-6:]}", daemon=True)
        self._writer.start()

    async def append(self, events: Sequence[Event]) -> None:
        """Make events durable, all of them or none.

        Raises:
            CaptureError: they are not durable (queue or disk full, I/O error, closed); nothing was acknowledged.
        """
        if events:
            await self._submit([outbox_file.event_row(event) for event in events])

    async def open_request(self, inference: Inference) -> None:
        """Make a request durable before the first byte of its answer. See ``complete``."""
        event = to_event(inference, flow=inference.flow, tenant=inference.tenant)
        flow, inference_id, _, tenant, micros, body = outbox_file.event_row(event)
        await self._submit([], opened=((inference_id, flow, tenant, micros, body),))

    async def complete(self, inference: Inference) -> None:
        """Replace an open request by its inference, in one transaction.

        If the replica dies before this, the request becomes an inference with finish reason ``interrupted``.
        """
        event = to_event(inference, flow=inference.flow, tenant=inference.tenant)
        await self._submit([outbox_file.event_row(event)], closed=(inference.inference_id,))

    def offer(self, events: Sequence[Event], failed: Failed) -> None:
        """Take events without waiting for their sync; ``failed`` is called (by another thread) if it fails.

        Raises:
            CaptureError: the queue is full, or the outbox is closed.
        """
        self._queue(_job([outbox_file.event_row(event) for event in events], failed=failed))

    def refusal(self) -> Refusal | None:
        """Why new requests must be turned away now; None when they can be recorded."""
        return self._limits.queue_refusal(self._events, self._size) or self._disk

    def check(self) -> None:
        """Raise ``CaptureError`` when the writer thread died: nobody would ever be answered."""
        if not self._writer.is_alive() and not self._closing:
            raise CaptureError("the writer of the outbox ended; replace this replica, its file is shipped")

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

    async def _submit(self, events: list[outbox_file.Row], **more: Any) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue(_job(events, waiter=done, **more))
        await done

    def _queue(self, job: _Job) -> None:
        with self._wake:
            if self._closing:
                raise CaptureError("the outbox is closed because the replica stops; send the request again")
            if self._limits.queue_full(self._events, self._size):
                raise CaptureError(f"{self._events} events wait for their sync already; send the request again")
            self._count(job, 1)
            self._jobs.append(job)
            self._wake.notify()

    def _count(self, job: _Job, sign: int) -> None:
        self._events += sign * (len(job.events) + len(job.opened))
        self._size += sign * job.size

    def _write_forever(self) -> None:
        while (jobs := self._gather()) is not None:
            if jobs:
                started = time.perf_counter()
                outcomes = self._commit(jobs)
                with self._wake:
                    for job in jobs:
                        self._count(job, -1)
                QUEUE.set(self._events)
                _tell(outcomes)
                _SYNC_SECONDS.observe(time.perf_counter() - started)
            if time.monotonic() - self._looked > LOOK_S:
                self._look()

    def _gather(self) -> list[_Job] | None:
        """Wait for a job, then a moment for others. Empty: time to look at the disk. None: closed, nothing is left."""
        with self._wake:
            while not self._jobs and not self._closing:
                if not self._wake.wait(LOOK_S if self._disk else None):
                    return []
        if self._wait_s and not self._closing:
            time.sleep(self._wait_s)
        with self._wake:
            return [self._jobs.popleft() for _ in range(min(len(self._jobs), MAX_GROUP))] or None

    def _commit(self, jobs: list[_Job]) -> list[tuple[_Job, Exception | None]]:
        try:
            self._transaction(jobs)
        except sqlite3.OperationalError as error:  # disk full, I/O error, locked: the same for every caller
            self._broken, self._looked = error, float("-inf")
            return [(job, error) for job in jobs]
        except Exception as error:  # noqa: BLE001 - a caller must never wait for ever on a dead writer
            if len(jobs) == 1:
                return [(jobs[0], error)]
            return [outcome for job in jobs for outcome in self._commit([job])]  # one bad row must not fail the others
        return [(job, None) for job in jobs]

    def _transaction(self, jobs: Sequence[_Job]) -> None:
        outbox_file.write(
            self._connection,
            opened=[row for job in jobs for row in job.opened],
            closed=[name for job in jobs for name in job.closed],
            events=[row for job in jobs for row in job.events],
        )

    def _look(self) -> None:
        """See whether there is room; after a failure, whether a synced write succeeds again."""
        self._looked = time.monotonic()
        try:
            if self._broken:
                outbox_file.probe(self._connection)
                self._broken = None
            used = outbox_file.used_bytes(self._connection)
            self._disk = self._limits.disk_refusal(self._folder, f"{self.outbox_id}.db", used)
        except (sqlite3.Error, OSError) as error:
            self._disk = Refusal("disk_error", f"nothing can be recorded, check the disk: {error}", 503, 5)


def _tell(outcomes: Sequence[tuple[_Job, Exception | None]]) -> None:
    """One wake-up an event loop, however many callers wait there."""
    waiting: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[None], Exception | None]]] = defaultdict(list)
    for job, error in outcomes:
        if job.waiter is not None:
            waiting[job.waiter.get_loop()].append((job.waiter, error))
        elif error is not None and job.failed is not None:
            job.failed(error)
    for loop, settled in waiting.items():
        try:
            loop.call_soon_threadsafe(_settle, settled)
        except RuntimeError:
            continue  # the loop is closed: nobody waits any more


def _settle(waiting: Sequence[tuple[asyncio.Future[None], Exception | None]]) -> None:
    for done, error in waiting:
        if done.done():  # the caller was cancelled
            continue
        if error is None:
            done.set_result(None)
        else:
            problem = CaptureError(f"the event could not be stored and was not acknowledged; check disk space: {error}")
            problem.__cause__ = error
            done.set_exception(problem)
