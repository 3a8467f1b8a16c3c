"""What the shipper does inside one outbox file: adopt, seal, read, forget. Each is one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from flywheel.capture.landing import Row, Segment

INTERRUPTED = "interrupted"
"""Finish reason of a request whose replica died before the answer was complete."""

SEGMENT_BYTES: Final = 32 * 2**20
"""Bodies in one segment at the most (at least one row): whoever ships or ingests it holds them several times over."""

_SIZES = "select seq, length(cast(body as blob)) from events where flow = ? and seq > ? order by seq"

_ADOPT = """
insert into events(flow, event_id, kind, tenant, ts, body)
select flow, inference_id, 'inference', tenant, ts,
    case when json_valid(body) then json_set(body, '$.finish_reason', ?) else body end
from open_requests order by ts, inference_id
"""  # a body that is no JSON travels on as it is: ingestion puts it into quarantine, where it can be seen


def adopt(connection: sqlite3.Connection) -> int:
    """Turn the open requests of a dead replica into interrupted inferences. Returns how many."""
    with transaction(connection):
        adopted = connection.execute(_ADOPT, (INTERRUPTED,)).rowcount
        connection.execute("delete from open_requests")
    return adopted


def seal(connection: sqlite3.Connection, outbox_id: str, segment_rows: int) -> list[Segment]:
    """Fix the ranges that are sent next; older unsent ones come first. A fixed range never changes again.

    Nothing new is sealed while old seals are unsent, so a long outage ends in few, full segments. Only shippers seal,
    one at a time: the rows are therefore measured before the transaction, which would keep the gateway from writing.
    """
    known = _unsent(connection, outbox_id)
    if known:
        return known
    ranges = [item for flow, start in _unsealed(connection) for item in _ranges(connection, flow, start, segment_rows)]
    with transaction(connection):
        connection.executemany("insert into seals(flow, lo, hi) values (?, ?, ?)", ranges)
        ends = [(flow, hi) for flow, _, hi in ranges]
        connection.executemany("insert or replace into sealed(flow, hi) values (?, ?)", ends)
    return _unsent(connection, outbox_id)


def rows_of(connection: sqlite3.Connection, segment: Segment) -> list[Row]:
    """The events of a sealed range, in sequence."""
    found = connection.execute(
        "select seq, event_id, kind, tenant, ts, body from events where flow = ? and seq between ? and ? order by seq",
        (segment.flow, segment.lo, segment.hi),
    )
    return [Row(*values) for values in found]


def forget(connection: sqlite3.Connection, segment: Segment) -> None:
    """Remove a range that is in the lake."""
    with transaction(connection):
        connection.execute(
            "delete from events where flow = ? and seq between ? and ?", (segment.flow, segment.lo, segment.hi)
        )
        connection.execute("delete from seals where flow = ? and lo = ?", (segment.flow, segment.lo))


def is_empty(connection: sqlite3.Connection) -> bool:
    """Whether nothing is left to ship."""
    query = "select exists(select 1 from events) or exists(select 1 from seals) or exists(select 1 from open_requests)"
    return not connection.execute(query).fetchone()[0]


def flows(connection: sqlite3.Connection) -> list[str]:
    """The flows that ever had a segment."""
    return [flow for (flow,) in connection.execute("select flow from sealed order by flow")]


def format_of(connection: sqlite3.Connection) -> int:
    """The number of the file's format; 0 for files of before it was counted."""
    return connection.execute("pragma user_version").fetchone()[0]


def has_tables(connection: sqlite3.Connection) -> bool:
    """False for a file whose owner died before it held anything."""
    return bool(connection.execute("select count(*) from sqlite_master where name = 'sealed'").fetchone()[0])


def _unsent(connection: sqlite3.Connection, outbox_id: str) -> list[Segment]:
    found = connection.execute("select flow, lo, hi from seals order by flow, lo")
    return [Segment(flow, outbox_id, lo, hi) for flow, lo, hi in found]


def _unsealed(connection: sqlite3.Connection) -> list[tuple[str, int]]:
    """Flows with events behind their last seal, and that seal's end (0: none yet)."""
    flows = connection.execute(
        "select e.flow, coalesce(max(s.hi), 0), max(e.seq)"
        " from events e left join sealed s on s.flow = e.flow group by e.flow"
    )
    return [(flow, start) for flow, start, last in flows if last > start]


def _ranges(connection: sqlite3.Connection, flow: str, start: int, segment_rows: int) -> Iterator[tuple[str, int, int]]:
    """The new segments of a flow: each covers the numbers behind the one before it."""
    for end in _ends(connection.execute(_SIZES, (flow, start)), segment_rows):
        yield flow, start + 1, end
        start = end


def _ends(sizes: Iterable[tuple[int, int]], segment_rows: int) -> Iterator[int]:
    """Last sequence number of each segment, of the number and size of every row."""
    rows = total = last = 0
    for seq, size in sizes:
        if rows and (rows == segment_rows or total + size > SEGMENT_BYTES):
            yield last
            rows = total = 0
        rows, total, last = rows + 1, total + size, seq
    if rows:
        yield last


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing; waits for whoever is writing."""
    connection.execute("begin immediate")
    try:
        yield
    except BaseException:
        connection.execute("rollback")
        raise
    connection.execute("commit")
