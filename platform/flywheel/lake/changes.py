"""What came into a table since a version of it: the rows of newly committed files, and nothing else is read.

The log of a Delta table names the files of each commit. Appends add files; a compaction says that it changes no data
and is passed over; a deletion (an erased person) replaces files. After a deletion nobody can tell what was there
before without reading it all, and neither can they when the log or a file is gone: then the answer is None, and the
caller begins anew, without the rows that were deleted.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from io import BytesIO
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flywheel.errors import NotFoundInLakeError
from flywheel.lake.commits import log_entry
from flywheel.lake.schemas import SHARED_FLOW, conform, schema_of
from flywheel.lake.tables import Lake

MOST_COMMITS = 5_000
"""With more new versions, reading all rows is quicker than reading so many log entries."""


class Changes(NamedTuple):
    """``rows`` came between the version that was asked about and ``version``."""

    version: int | None
    rows: pa.Table


def changes(lake: Lake, table: str, *, since: int | None, flow: str, columns: Sequence[str]) -> Changes | None:
    """Rows appended after version ``since`` (None: there was no table yet).

    Returns:
        None where rows were deleted, or the log or a file is gone: read everything.
    """
    newest = _newest(lake, table, since)
    wanted = _fields(table, columns)
    if newest is None or newest == since:
        return Changes(newest, wanted.empty_table())
    first = 0 if since is None else since + 1
    if newest - first >= MOST_COMMITS:
        return None
    try:
        added = [file for n in range(first, newest + 1) for file in _commit(lake, table, n, flow)]
        parts = [_part(lake, table, file, wanted) for file in added]
    except (NotFoundInLakeError, _RowsWentError):
        return None
    return Changes(newest, pa.concat_tables(parts) if parts else wanted.empty_table())


def changes_known(lake: Lake, table: str, since: int | None) -> bool:
    """Whether the log still tells what came after version ``since``; ask before the first ``changes`` of a process.

    Between two calls a few seconds apart no entry can be removed, so that ``changes`` may look for the next one only.
    """
    newest = lake.version(table)
    first = 0 if since is None else since + 1
    return newest is None or newest < first or lake.store.exists(log_entry(f"tables/{table}", first))


def pick(
    lake: Lake, table: str, *, flow: str, dates: Collection[str], column: str, values: Collection[str],
    columns: Sequence[str],
) -> pa.Table:  # fmt: skip
    """The rows of some dates in which ``column`` has one of ``values``, read a day at a time."""
    wanted, found = pc.field(column).isin(sorted(values)), []
    for date in sorted(dates):
        rows = lake.read(table, flow=flow, dates=[date], columns=columns)
        found.append(rows.filter(wanted))
    return pa.concat_tables(found) if found else _fields(table, columns).empty_table()


class _RowsWentError(Exception):
    """A commit that takes rows away."""


def _newest(lake: Lake, table: str, since: int | None) -> int | None:
    """The newest version. One probe where nothing happened since."""
    if since is None:
        return lake.version(table)
    if not lake.store.exists(log_entry(f"tables/{table}", since + 1)):
        return since
    return lake.version(table)


def _commit(lake: Lake, table: str, n: int, flow: str) -> Iterator[dict[str, Any]]:
    """Files that commit ``n`` added for a flow."""
    for line in lake.store.get(log_entry(f"tables/{table}", n)).splitlines():
        action = json.loads(line) if line.strip() else {}
        if action.get("remove", {}).get("dataChange", False):
            raise _RowsWentError
        added = action.get("add")
        if added and added.get("dataChange", True) and added["partitionValues"].get("flow") in {flow, SHARED_FLOW}:
            yield added


def _part(lake: Lake, table: str, file: dict[str, Any], wanted: pa.Schema) -> pa.Table:
    stored = pq.ParquetFile(BytesIO(lake.store.get(f"tables/{table}/{file['path']}")))
    there = [name for name in wanted.names if name in stored.schema_arrow.names]
    rows = stored.read(columns=there)
    for name, value in file["partitionValues"].items():
        if name in wanted.names:
            rows = rows.append_column(name, pa.array([value] * len(rows), pa.string()))
    return conform(rows, wanted)


def _fields(table: str, columns: Sequence[str]) -> pa.Schema:
    schema = schema_of(table)
    return pa.schema([schema.field(name) for name in columns])
