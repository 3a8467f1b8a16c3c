"""Appends what a table does not hold yet: each row once, however many imports run, die and run again.

A row's identity is its content. To look what is there and to append is one step, because imports into a
table take turns: each append is the next version of one Delta application, and whoever finds that number
taken looks again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from flywheel.capture.known import Known, key_of
from flywheel.lake.schemas import to_arrow
from flywheel.lake.tables import Lake
from flywheel.records import Record

APP: Final = "imports"
_MAX_DAYS: Final = 4_000

R = TypeVar("R", bound=Record)
Key = tuple[Any, ...]


class Stored(Protocol):
    """What a table holds, as far as an import needs to know; may be kept in memory until told to forget."""

    def key(self, table: str, row: Any) -> Key:
        """The identity of a row."""
        ...

    def present(self, table: str, rows: Sequence[Any]) -> set[Key]:
        """The keys of those rows that are there."""
        ...

    def add(self, table: str, data: pa.Table) -> None:
        """These rows are there now."""
        ...

    def forget(self, table: str) -> None:
        """Somebody else wrote."""
        ...


class Appender:
    """Appends to the tables of one lake."""

    def __init__(self, lake: Lake, stored: Stored) -> None:
        self._lake, self._stored = lake, stored
        self._turns: dict[str, int] = {}

    def append(self, table: str, rows: Sequence[R], finish: Callable[[R], R]) -> set[Key]:
        """Append those rows that are not there, each once; returns their keys.

        ``finish`` makes a row ready for the table; its key stays the same. It is not called for rows that are there.
        """
        if table not in self._turns:
            self._turns[table] = self._last(table)  # before the first look at the table
        unique = {self._stored.key(table, row): row for row in reversed(rows)}
        while True:
            there = self._stored.present(table, rows)
            fresh = {key: row for key, row in reversed(unique.items()) if key not in there}
            if not fresh:
                return set()
            data = to_arrow(table, [finish(row) for row in fresh.values()])
            if self._lake.append(table, data, app=APP, version=self._turns[table] + 1):
                self._turns[table] += 1
                self._stored.add(table, data)
                return set(fresh)
            self._turns[table] = self._last(table)
            self._stored.forget(table)

    def _last(self, table: str) -> int:
        return self._lake.last_committed(table, APP) or 0


class StoredTraffic:
    """Inferences and feedback of all flows."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._flows: dict[str, Known] = {}

    def of(self, flow: str) -> Known:
        """What is known of a flow."""
        return self._flows.setdefault(flow, Known(self._lake, flow, max_partitions=_MAX_DAYS))

    def key(self, table: str, row: Any) -> Key:
        """See ``Stored``."""
        return key_of(table, row)

    def present(self, table: str, rows: Sequence[Any]) -> set[Key]:
        """See ``Stored``."""
        flows: dict[str, list[Any]] = {}
        for row in rows:
            flows.setdefault(row.flow, []).append(row)
        return set[Key]().union(*(self.of(flow).present(table, some) for flow, some in flows.items()))

    def add(self, table: str, data: pa.Table) -> None:
        """See ``Stored``."""
        for flow in data["flow"].unique().to_pylist():
            self.of(flow).add(table, data.filter(pc.field("flow") == flow))

    def forget(self, table: str) -> None:
        """See ``Stored``."""
        for known in self._flows.values():
            known.forget(table)


class StoredCases:
    """Evaluation cases; there are few enough to hold all their ids."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._ids: set[Key] | None = None

    def key(self, table: str, row: Any) -> Key:
        """See ``Stored``."""
        del table
        return (row.case_id,)

    def present(self, table: str, rows: Sequence[Any]) -> set[Key]:
        """See ``Stored``."""
        if self._ids is None:
            self._ids = {(case,) for case in self._lake.read(table, columns=["case_id"])["case_id"].to_pylist()}
        return self._ids & {self.key(table, row) for row in rows}

    def add(self, table: str, data: pa.Table) -> None:
        """See ``Stored``."""
        del table
        self._ids = (self._ids or set()) | {(case,) for case in data["case_id"].to_pylist()}

    def forget(self, table: str) -> None:
        """See ``Stored``."""
        del table
        self._ids = None
