"""Known: what the touched partitions hold already, for deduplication and for joining late reactions.

A partition is read once and then kept up with our own commits, so that a batch costs the same however
full its day is. When somebody else commits for this flow, the caller forgets the table.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from flywheel.capture.privatise import TEXT_REMOVED, Link
from flywheel.lake.schemas import partition_date
from flywheel.lake.tables import Lake
from flywheel.records import Feedback, Record

COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "inferences": ("inference_id", "subject", "session_id", "tags", "tenant"),
    "feedback": ("feedback_id",),
    "consents": ("subject", "purpose", "ts"),
    "shadow_pairs": ("inference_id", "candidate"),
}
"""Columns that are kept of each table: its key, and of inferences what a reaction needs."""

KEYS: Final[dict[str, tuple[str, ...]]] = {**COLUMNS, "inferences": ("inference_id",)}
"""What makes a row of a table the same row."""

REFRESH_S: Final = 30.0
"""How old a kept partition may be before a missing inference is looked for in the table again."""


class Known:
    """Key columns of the partitions of one flow, read when first needed.

    Args:
        lake: the tables.
        flow: whose partitions; rows without a flow are looked at for every flow.
        max_partitions: kept from one question to the next; the ones read first go first.
    """

    def __init__(self, lake: Lake, flow: str, *, max_partitions: int = 16) -> None:
        self._lake, self._flow, self._max = lake, flow, max_partitions
        self._tables: dict[tuple[str, str], pa.Table] = {}
        self._read_at: dict[tuple[str, str], float] = {}

    def present(self, table: str, rows: Sequence[Record]) -> set[tuple[Any, ...]]:
        """Keys of those ``rows`` that the table holds already."""
        columns = KEYS[table]
        found: set[tuple[Any, ...]] = set()
        groups = _by_date(rows)
        for date, held in self._partitions(table, groups).items():
            matches = _matching(held, columns[0], [getattr(row, columns[0]) for row in groups[date]])
            found.update(zip(*(matches[column].to_pylist() for column in columns), strict=True))
        return found

    def links(self, inference_ids: Collection[str]) -> dict[str, Link]:
        """The stored inferences among ``inference_ids``; ids must be UUIDv7."""
        groups: dict[str, list[str]] = {}
        for inference_id in inference_ids:
            groups.setdefault(partition_date(inference_id, None), []).append(inference_id)
        held = self._partitions("inferences", groups)
        found = {date: _links(held[date], ids) for date, ids in groups.items()}
        lacking = [date for date, ids in groups.items() if len(found[date]) < len(ids)]
        for date, rows in self._newer("inferences", lacking).items():  # an import may have brought them
            found[date] = _links(rows, groups[date])
        return {inference_id: link for links in found.values() for inference_id, link in links.items()}

    def sessions(self, wanted: Mapping[str, Collection[str]]) -> dict[str, tuple[str, Link]]:
        """An answer of each stored session among ``wanted``, by date; of several dates and answers the newest.

        Args:
            wanted: date -> pseudonyms of sessions.
        """
        found: dict[str, tuple[str, Link]] = {}
        for date in sorted(wanted):
            answers = _answers(self._partitions("inferences", [date])[date], wanted[date])
            lacking = [date] if len(answers) < len(wanted[date]) else []
            for rows in self._newer("inferences", lacking).values():
                answers = _answers(rows, wanted[date])
            found.update(answers)
        return found

    def add(self, table: str, data: pa.Table) -> None:
        """Our own commit of ``data`` (in the table's schema): keep the partitions that are held up to date."""
        for date in data["date"].unique().to_pylist():
            held = self._tables.get((table, date))
            if held is not None:
                new = data.filter(pc.field("date") == date).select(COLUMNS[table])
                self._tables[table, date] = pa.concat_tables([held, new])

    def forget(self, table: str | None = None) -> None:
        """Somebody else may have written: read again when needed (no table named: everything)."""
        for key in [key for key in self._tables if table in {None, key[0]}]:
            self._drop(key)

    def _partitions(self, table: str, dates: Collection[str]) -> dict[str, pa.Table]:
        """The partitions of ``dates``, those that are not held in one read."""
        missing = [date for date in dates if (table, date) not in self._tables]
        if missing:
            data = self._lake.read(table, flow=self._flow, dates=missing, columns=[*COLUMNS[table], "date"])
            for date in missing:
                rows = data if len(missing) == 1 else data.filter(pc.field("date") == date)
                self._tables[table, date] = rows.select(COLUMNS[table])
                self._read_at[table, date] = time.monotonic()
        wanted = {(table, date): self._tables[table, date] for date in dates}
        spare = [key for key in self._tables if key not in wanted]  # the caller is not done with what it asked for
        for key in spare[: max(0, len(self._tables) - self._max)]:
            self._drop(key)
        return {date: rows for (_, date), rows in wanted.items()}

    def _newer(self, table: str, dates: Collection[str]) -> dict[str, pa.Table]:
        """Those of ``dates`` that were read a while ago, read again, all of them at once."""
        old = [date for date in dates if self._age(table, date) > REFRESH_S]
        for date in old:
            self._drop((table, date))
        return self._partitions(table, old)

    def _age(self, table: str, date: str) -> float:
        return time.monotonic() - self._read_at.get((table, date), -math.inf)

    def _drop(self, key: tuple[str, str]) -> None:
        self._tables.pop(key, None)
        self._read_at.pop(key, None)


def key_of(table: str, row: Record) -> tuple[Any, ...]:
    """The identity of a row in its table."""
    return tuple(getattr(row, column) for column in KEYS[table])


def _by_date(rows: Sequence[Record]) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = {}
    for row in rows:
        for date in _dates(row):
            groups.setdefault(date, []).append(row)
    return groups


def _dates(row: Record) -> list[str]:
    """Where a row may lie. A reaction to a session lies by its own time, and a retry may come after midnight."""
    if isinstance(row, Feedback) and row.session_id is not None:
        return days_of_session(row.ts)
    return [partition_date(getattr(row, "inference_id", None), getattr(row, "ts", None))]


def days_of_session(ts: datetime) -> list[str]:
    """The partitions where answers of a session are looked for, and where a reaction to it may lie: newest last."""
    return [partition_date(None, ts - timedelta(days=1)), partition_date(None, ts)]


def _matching(held: pa.Table, column: str, values: Sequence[Any]) -> pa.Table:
    wanted = pa.array(sorted(set(values)), held.schema.field(column).type)
    return held.filter(pc.field(column).isin(wanted))


def _links(held: pa.Table, inference_ids: Sequence[str]) -> dict[str, Link]:
    matches = _matching(held, "inference_id", inference_ids)
    return {row["inference_id"]: _link(row) for row in matches.to_pylist()}


def _answers(held: pa.Table, sessions: Collection[str]) -> dict[str, tuple[str, Link]]:
    """The newest answer of each session; ids sort by their time."""
    matches = _matching(held, "session_id", list(sessions)).sort_by("inference_id")
    return {row["session_id"]: (row["inference_id"], _link(row)) for row in matches.to_pylist()}


def _link(row: dict[str, Any]) -> Link:
    return Link(
        row["subject"],
        row["session_id"] or row["inference_id"],
        f'"{TEXT_REMOVED}"' not in (row["tags"] or ""),
        row["tenant"] or "default",
    )
