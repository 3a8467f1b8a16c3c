"""Erase one person where events lie as they came: outboxes, landing segments, and what ingestion put aside.

These stores hold the raw user id, so this is the one place that compares it. A reaction that names nobody belongs to
whoever got the answer: the ids of the person's answers are therefore collected before anything is removed.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from flywheel.capture import landing, sealing
from flywheel.capture.corrupt import put_aside_before
from flywheel.capture.erased import parsed, time_of
from flywheel.capture.landing import Row
from flywheel.capture.outbox_file import BUSY_TIMEOUT_S, connect
from flywheel.capture.ship import only_shipper, outbox_ids
from flywheel.errors import BusyError, CaptureError
from flywheel.lake.erasures import lines_without
from flywheel.lake.store import ObjectStore

QUARANTINE: Final = "quarantine"
_SHIPPER_WAIT_S: Final = 60.0
_EVENTS: Final = "select seq, event_id, kind, tenant, ts, body from events"
_OPEN: Final = "select 0, inference_id, 'inference', tenant, ts, body from open_requests"


class Swept(NamedTuple):
    """What a store held of the person, and which parts of it nobody can look into."""

    rows: int = 0
    unreadable: tuple[str, ...] = ()

    def plus(self, other: Swept) -> Swept:
        """Both together."""
        return Swept(self.rows + other.rows, self.unreadable + other.unreadable)


@dataclass(frozen=True)
class RawPerson:
    """Whose events go: all that ``user`` sent until a moment, and whatever is about one of their answers."""

    tenant: str
    user: str
    subject: str
    until: datetime
    answers: frozenset[str] = frozenset()

    def sent(self, row: Row) -> bool:
        """Whether the person sent this event."""
        if row.tenant != self.tenant or time_of(row) > self.until:
            return False
        body = parsed(row.body)
        # A body that is no JSON cannot be asked for its subject: any mention of the user is enough.
        return body.get("subject") == self.user if body else json.dumps(self.user) in row.body

    def concerns(self, row: Row) -> bool:
        """Whether this event goes."""
        return self.sent(row) or parsed(row.body).get("inference_id") in self.answers

    def refused(self, refusal: dict[str, Any]) -> bool:
        """Whether a row in quarantine goes; there the user is a pseudonym already."""
        body = parsed(refusal["body"])
        named = self.subject in (body.get("subject"), body.get("user"))
        return named or body.get("inference_id") in self.answers or refusal["event_id"] in self.answers

    def with_answers(self, ids: frozenset[str]) -> RawPerson:
        """The same person, with more of their answers known."""
        return replace(self, answers=self.answers | ids)


def raw_answers(folder: Path, store: ObjectStore, person: RawPerson) -> frozenset[str]:
    """Ids of the person's inferences that lie in the outboxes of ``folder`` or in ``landing/``.

    Outboxes come first: what is shipped meanwhile is then seen in landing. What cannot be read is passed over.
    """
    found: set[Any] = set()
    for database in _databases(folder):
        try:
            with closing(connect(database)) as connection:
                found |= {row.event_id for row in _bodies(connection) if _is_answer(row, person)}
        except sqlite3.Error:
            continue
    for key in _segments(store):
        data = store.get_or_none(key)
        try:
            rows = [] if data is None else landing.decode(data, key)
        except CaptureError:
            continue
        found |= {row.event_id for row in rows if _is_answer(row, person)}
    return frozenset(found)


def erase_outboxes(folder: Path, person: RawPerson, *, dry: bool = False) -> Swept:
    """Remove the person's events from the outboxes of this machine, and from the free pages of their files.

    Gateways may be writing meanwhile. Shippers are kept out; one that starts later sees the tombstone.

    Raises:
        BusyError: a shipper or a gateway did not let go of a file in time.
    """
    total = Swept(0, tuple(f"damaged outbox {path}" for path in put_aside_before(folder)))
    if not folder.is_dir():
        return total
    with only_shipper(folder, _SHIPPER_WAIT_S):
        for database in _databases(folder):
            try:
                with closing(connect(database)) as connection:
                    total = total.plus(Swept(_erase_outbox(connection, database, person, dry=dry)))
            except sqlite3.Error as error:
                if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                    raise _in_use(database) from error
                total = total.plus(Swept(0, (f"outbox {database} ({error})",)))
    return total


def erase_landing(store: ObjectStore, person: RawPerson, *, dry: bool = False) -> Swept:
    """Remove the person's events from every segment in ``landing/``; the segments keep their names and ranges."""
    total = Swept()
    for key in _segments(store):

        def without(data: bytes, key: str = key) -> tuple[bytes, int]:
            rows = landing.decode(data, key)
            kept = [row for row in rows if not person.concerns(row)]
            return landing.encode(kept), len(rows) - len(kept)

        try:
            total = total.plus(Swept(store.strip(key, without, dry=dry)))
        except CaptureError:
            total = total.plus(Swept(0, (key,)))
    return total


def erase_quarantine(store: ObjectStore, person: RawPerson, *, dry: bool = False) -> Swept:
    """Remove the person's rows from what ingestion put aside. Segments that are no Parquet cannot be looked into."""
    keys = store.list(QUARANTINE)
    lines = [key for key in keys if key.endswith(".jsonl")]
    rows = sum(store.strip(key, lines_without(person.refused), dry=dry) for key in lines)
    return Swept(rows, tuple(sorted(set(keys) - set(lines))))


def _erase_outbox(connection: sqlite3.Connection, database: Path, person: RawPerson, *, dry: bool) -> int:
    doomed = [(row.seq, row.event_id) for row in _bodies(connection) if person.concerns(row)]
    if dry:
        return len(doomed)
    with sealing.transaction(connection):
        connection.executemany("delete from events where seq = ?", [(seq,) for seq, _ in doomed])
        answers = [(event_id,) for seq, event_id in doomed if seq == 0]
        connection.executemany("delete from open_requests where inference_id = ?", answers)
    # Rows that were shipped long ago may still stand in pages that nothing has used since, and in the write-ahead log.
    connection.execute("pragma temp_store = memory")
    connection.execute("vacuum")
    _truncate_log(connection, database)
    return len(doomed)


def _truncate_log(connection: sqlite3.Connection, database: Path) -> None:
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while connection.execute("pragma wal_checkpoint(truncate)").fetchone()[0]:
        if time.monotonic() > deadline:
            raise _in_use(database)
        time.sleep(0.05)


def _in_use(database: Path) -> BusyError:
    return BusyError(f"{database} is in use all the time; run the same command again when there is less traffic.")


def _bodies(connection: sqlite3.Connection) -> Iterator[Row]:
    """Every body that an outbox holds, one at a time: it may hold gigabytes. Open requests have sequence number 0."""
    if sealing.has_tables(connection):
        for query in (_EVENTS, _OPEN):
            yield from (Row(*values) for values in connection.execute(query))


def _is_answer(row: Row, person: RawPerson) -> bool:
    return row.kind == "inference" and person.sent(row)


def _databases(folder: Path) -> list[Path]:
    paths = [folder / f"{outbox_id}.db" for outbox_id in outbox_ids(folder)] if folder.is_dir() else []
    return [path for path in paths if path.exists()]


def _segments(store: ObjectStore) -> list[str]:
    return [key for key in store.list(landing.ROOT) if landing.parse(key)]
