"""Ship: move sealed ranges of the outboxes of one machine into ``landing/``.

The order is what makes it exact: seal the range in the outbox, write the segment unless it is there,
then forget the range. Killed anywhere, a rerun writes the same segment under the same name.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import Field, ValidationError

from flywheel.capture import sealing
from flywheel.capture.corrupt import is_corrupt, put_aside
from flywheel.capture.erased import Erased
from flywheel.capture.landing import closed_key, encode
from flywheel.capture.outbox_file import FORMAT, connect, is_outbox_id, try_lock
from flywheel.config import CaptureConfig
from flywheel.errors import BusyError, CaptureError
from flywheel.lake.erasures import read_erasures
from flywheel.lake.keys import Keyring
from flywheel.lake.store import ObjectStore
from flywheel.records import Record

log = logging.getLogger(__name__)

_LOCK_NAME = "shipper"


class ShipReport(Record):
    """What one pass over the outboxes did."""

    segments: int = 0
    events: int = 0
    interrupted: int = Field(default=0, description="open requests of dead replicas, now inferences")
    removed: int = Field(default=0, description="drained outboxes of dead replicas")
    erased: dict[str, int] = Field(default_factory=dict, description="flow -> events of erased people, not sent")
    corrupt: dict[str, str] = Field(default_factory=dict, description="outbox -> where its damaged file was put")
    failed: dict[str, str] = Field(default_factory=dict, description="outbox -> why it could not be read; it is kept")


def ship_once(
    folder: Path, store: ObjectStore, config: CaptureConfig, keyring: Keyring, *, wait_s: float = 10.0
) -> ShipReport:
    """Ship everything that the outboxes in ``folder`` held when the pass came to them.

    Args:
        folder: the outboxes of this machine.
        store: where ``landing/`` is.
        config: segment size.
        keyring: tells the events of erased people, which are not sent.
        wait_s: how long to wait for another shipper of the same folder.

    Raises:
        BusyError: another shipper of the folder did not finish in time.
        LakeError: the lake did not take a segment; the events stay in the outbox.
    """
    if not folder.is_dir():
        return ShipReport()
    total = ShipReport()
    with only_shipper(folder, wait_s):
        for outbox_id in outbox_ids(folder):
            try:
                total = _add(total, _ship_outbox(folder, outbox_id, store, config, keyring))
            except (sqlite3.Error, CaptureError, ValidationError) as error:
                log.exception("outbox %s could not be shipped; it is kept and tried again", outbox_id)
                total = _add(total, ShipReport(failed={outbox_id: str(error)}))
    return total


def unshipped(folder: Path) -> int:
    """Events, and requests of dead replicas, that wait in the outboxes of ``folder``."""
    return sum(_waiting(folder, outbox_id) for outbox_id in outbox_ids(folder)) if folder.is_dir() else 0


def _waiting(folder: Path, outbox_id: str) -> int:
    lock = try_lock(folder / f"{outbox_id}.lock")
    try:
        with closing(connect(folder / f"{outbox_id}.db")) as connection:
            tables = ["events"] if lock is None else ["events", "open_requests"]
            return sum(connection.execute(f"select count(*) from {table}").fetchone()[0] for table in tables)
    except sqlite3.Error:
        return 0  # just made, just removed, or damaged
    finally:
        if lock is not None:
            os.close(lock)


@contextmanager
def only_shipper(folder: Path, wait_s: float) -> Iterator[None]:
    """Keep every shipper out of the outboxes of ``folder``.

    Raises:
        BusyError: another one did not finish within ``wait_s``.
    """
    lock = FileLock(folder / f"{_LOCK_NAME}.lock")
    try:
        lock.acquire(timeout=wait_s)
    except Timeout as error:
        raise BusyError(f"Another shipper holds {folder} and ships for this machine; wait for it.") from error
    try:
        yield
    finally:
        lock.release()


def outbox_ids(folder: Path) -> list[str]:
    """The outboxes in ``folder``, oldest first. Files of other names are somebody else's."""
    names = {path.stem for suffix in ("*.db", "*.lock") for path in folder.glob(suffix)}
    return sorted(filter(is_outbox_id, names))


def _ship_outbox(
    folder: Path, outbox_id: str, store: ObjectStore, config: CaptureConfig, keyring: Keyring
) -> ShipReport:
    lock = try_lock(folder / f"{outbox_id}.lock")  # held: the owner is dead, and nobody else writes here any more
    try:
        try:
            report, empty = _ship_file(
                folder / f"{outbox_id}.db", outbox_id, store, config, keyring, dead=lock is not None
            )
        except sqlite3.DatabaseError as error:
            if lock is None or not is_corrupt(error):
                raise
            kept = put_aside(folder, outbox_id, error)
            (folder / f"{outbox_id}.lock").unlink(missing_ok=True)
            return ShipReport(corrupt={outbox_id: str(kept)})
        if lock is None or not empty:
            return report
        _remove(folder, outbox_id)
        return _add(report, ShipReport(removed=1))
    finally:
        if lock is not None:
            os.close(lock)


def _ship_file(
    database: Path, outbox_id: str, store: ObjectStore, config: CaptureConfig, keyring: Keyring, *, dead: bool
) -> tuple[ShipReport, bool]:
    """Ship one file; also says whether it is empty now."""
    if not database.exists():
        return ShipReport(), True
    with closing(connect(database)) as connection:
        if sealing.format_of(connection) > FORMAT:
            raise CaptureError(f"{database.name} was made by a newer version of Flywheel; ship it with that version")
        if not sealing.has_tables(connection):
            return ShipReport(), True
        interrupted = sealing.adopt(connection) if dead else 0
        report = _add(_send(connection, outbox_id, store, config, keyring), ShipReport(interrupted=interrupted))
        empty = sealing.is_empty(connection)
        if dead and empty:
            for flow in sealing.flows(connection):
                store.put_if_absent(closed_key(flow, outbox_id), b"")
        return report, empty


def _send(
    connection: sqlite3.Connection, outbox_id: str, store: ObjectStore, config: CaptureConfig, keyring: Keyring
) -> ShipReport:
    """Send what was sealed before, then what is there now."""
    segments, events, erased = 0, 0, Counter[str]()
    for _ in range(2):
        for segment in sealing.seal(connection, outbox_id, config.segment_rows):
            rows = sealing.rows_of(connection, segment)
            gone = Erased(read_erasures(store), keyring)
            kept = [row for row in rows if not gone.row(row)]
            store.put_if_absent(segment.key, encode(kept))  # False: sent by a pass that died before it could forget
            sealing.forget(connection, segment)
            segments += 1
            events += len(kept)
            erased[segment.flow] += len(rows) - len(kept)
    return ShipReport(segments=segments, events=events, erased=dict(+erased))


def _remove(folder: Path, outbox_id: str) -> None:
    """The lock goes last: a crash in between leaves a lock without a file, which the next pass removes."""
    for suffix in (".db", ".db-wal", ".db-shm", ".lock"):
        (folder / f"{outbox_id}{suffix}").unlink(missing_ok=True)


def _add(a: ShipReport, b: ShipReport) -> ShipReport:
    return ShipReport(
        segments=a.segments + b.segments,
        events=a.events + b.events,
        interrupted=a.interrupted + b.interrupted,
        removed=a.removed + b.removed,
        erased=dict(Counter(a.erased) + Counter(b.erased)),
        corrupt={**a.corrupt, **b.corrupt},
        failed={**a.failed, **b.failed},
    )
