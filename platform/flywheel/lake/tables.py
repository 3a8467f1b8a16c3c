"""The lake as the stages see it: append once, read a partition or a snapshot, keep tables small."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import timedelta
from io import BytesIO
from typing import Any, Final, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable

from flywheel.config import FlywheelConfig
from flywheel.errors import LakeError, NotFoundInLakeError
from flywheel.lake.commits import Part, TableAddress, attempts, commit_once, write_parts
from flywheel.lake.compaction import compact_files
from flywheel.lake.deletion import delete_rows
from flywheel.lake.problems import explained
from flywheel.lake.schemas import SHARED_FLOW, conform, from_arrow, schema_of, to_arrow
from flywheel.lake.store import ObjectStore
from flywheel.lake.swaps import list_paths
from flywheel.records import Record

R = TypeVar("R", bound=Record)

IN_FLIGHT: Final = timedelta(minutes=15)
"""Longer than a writer whose ingestion or import was waited for may still take to its commit."""
UNCOMMITTED: Final = timedelta(days=1)
"""Longer than any write: a part that is older and in no version belongs to a writer that died."""


class Lake:
    """Delta tables under ``<uri>/tables`` and objects beside them (``store``). Safe to pickle to workers."""

    def __init__(self, uri: str, storage_options: Mapping[str, str] | None = None) -> None:
        self.store = ObjectStore(uri, storage_options)
        self.uri = self.store.uri
        self.storage_options = self.store.options

    def __reduce__(self) -> tuple[Any, ...]:
        return Lake, (self.uri, self.storage_options)

    def table_uri(self, table: str) -> str:
        """The address of a Delta table: a folder or ``s3://...``."""
        return f"{self.uri}/{_prefix(table)}"

    def append(
        self, table: str, rows: Sequence[Record] | pa.Table, *, app: str, version: int, flow: str | None = None
    ) -> bool:
        """Append rows exactly once per (app, version). True: by this call. False: that batch was there already.

        Versions of one app must grow: a batch at or below the last one counts as there. ``flow`` is for
        row types without a flow of their own. No rows is fine and marks the batch as done.

        Raises:
            LakeError: the rows do not fit, or the storage failed. BusyError: too many writers.
        """
        data = to_arrow(table, rows, flow=flow)
        return self._commit(table, lambda: self.write_parts(table, data), app, version)

    def write_parts(self, table: str, rows: Sequence[Record] | pa.Table, *, flow: str | None = None) -> list[Part]:
        """For workers: write Parquet parts without committing them; hand the result to ``commit_files``."""
        return write_parts(self.store, _prefix(table), to_arrow(table, rows, flow=flow))

    def commit_files(self, table: str, parts: Sequence[Part], *, app: str, version: int) -> bool:
        """Commit parts that workers wrote, all in one commit, exactly once per (app, version)."""
        return self._commit(table, lambda: parts, app, version)

    def read(
        self,
        table: str,
        *,
        flow: str | None = None,
        dates: Collection[str] | None = None,
        columns: Sequence[str] | None = None,
        at: int | None = None,
    ) -> pa.Table:
        """Rows of a table, of one flow and some dates if given (only those partitions are touched).

        ``at`` reads the table as it was at that version. A table that does not exist yet is empty.

        Raises:
            NotFoundInLakeError: files of version ``at`` were removed for good (see ``scrub``), or the log forgot it.
        """
        try:
            return self._rows(table, flow, dates, columns, at)
        except NotFoundInLakeError as error:
            if at is not None:
                raise NotFoundInLakeError(
                    f"version {at} of the table {table} cannot be read any more, because rows of it were erased, or it "
                    "is older than the table's log (30 days); use the newest version (a turn that needs this one: "
                    "start a new one with --new)"
                ) from error
        return self._rows(table, flow, dates, columns, at)  # a file was replaced and removed under our eyes: once more

    def scan(
        self, table: str, *, flow: str | None = None, columns: Sequence[str] | None = None, rows: int = 4_096
    ) -> Iterator[pa.Table]:
        """``read`` in pieces of at most ``rows`` rows, with a few of them in memory at a time."""
        wanted = _wanted(table, columns)
        dataset = self._dataset(table, flow=flow)
        if dataset is None:
            return
        with explained(self.table_uri(table)):
            scanner = dataset.scanner(
                columns=_present(dataset, wanted), batch_size=rows, batch_readahead=1, fragment_readahead=1
            )
            for batch in scanner.to_batches():
                if batch.num_rows:
                    yield conform(pa.Table.from_batches([batch]), wanted)

    def records(
        self,
        table: str,
        model: type[R],
        *,
        flow: str | None = None,
        dates: Collection[str] | None = None,
        at: int | None = None,
    ) -> list[R]:
        """``read`` as validated rows."""
        return from_arrow(self.read(table, flow=flow, dates=dates, at=at), model)

    def read_partition_ids(self, table: str, flow: str, dates: Collection[str], column: str) -> set[str]:
        """The values of one column in some partitions: what an ingester deduplicates against."""
        return set(self.read(table, flow=flow, dates=dates, columns=[column])[column].to_pylist())

    def version(self, table: str) -> int | None:
        """The table's newest version; None where there is no table yet."""
        snapshot = self._open(table)
        return None if snapshot is None else snapshot.version()

    def last_committed(self, table: str, app: str) -> int | None:
        """The version of the app's last batch in this table; None before the first."""
        snapshot = self._open(table)
        return None if snapshot is None else snapshot.transaction_version(app)

    def compact(self, table: str, *, flow: str | None = None) -> int:
        """Merge small files of each partition; returns how many files fewer there are. Rows stay as they are.

        Appends, deletions and other compactions may run meanwhile and lose or double nothing. One that is overtaken
        every time merges nothing: the next will do.
        """
        schema_of(table)
        address = TableAddress(self.table_uri(table), self.storage_options)
        return compact_files(address, self.store, _prefix(table), flow)

    def count(self, table: str, where: pc.Expression) -> int:
        """How many rows of the newest version ``where`` is true of."""
        snapshot = self._open(table)
        if snapshot is None:
            return 0
        with explained(self.table_uri(table)):
            return snapshot.to_pyarrow_dataset().count_rows(filter=where)

    def delete(self, table: str, where: pc.Expression) -> int:
        """Remove the rows that ``where`` is true of; returns how many there were.

        Appends and compactions may run meanwhile and lose nothing. ``scrub`` then removes the files that held them.

        Raises:
            BusyError: too many writers.
        """
        address = TableAddress(self.table_uri(table), self.storage_options)
        return delete_rows(address, self.store, _prefix(table), where)

    def file_count(self, table: str) -> int:
        """How many files the newest version consists of."""
        snapshot = self._open(table)
        return 0 if snapshot is None else len(snapshot.file_uris())

    def vacuum(
        self,
        table: str,
        *,
        older_than: timedelta = timedelta(days=7),
        keep: Collection[int] = (),
        dry: bool = False,
    ) -> list[str]:
        """Delete files that no version younger than ``older_than`` needs; returns their paths. ``dry``: only look.

        Parts whose commit never came are among them; keep ``older_than`` above the longest write. ``keep`` names
        older versions that are still read: time alone does not tell, because a log names a replaced file for a
        week only, and then the file's own age counts.
        """
        return self._vacuum(table, older_than, unknown=True, dry=dry, keep=keep)

    def scrub(self, table: str, where: pc.Expression | None = None) -> list[str]:
        """Delete every file that the newest version does not need, so that deleted rows are nowhere; returns paths.

        Older versions cannot be read any more. Parts whose commit never came may still get it: they go when they
        are older than ``UNCOMMITTED``; those with a row that ``where`` is true of when they are older than
        ``IN_FLIGHT``.
        """
        gone = self._vacuum(table, timedelta(0), unknown=False) + self._vacuum(table, UNCOMMITTED, unknown=True)
        return gone if where is None else gone + self._scrub_uncommitted(table, where)

    def _scrub_uncommitted(self, table: str, where: pc.Expression) -> list[str]:
        snapshot = self._open(table)
        if snapshot is None:
            return []
        prefix = _prefix(table)
        named = {f"{prefix}/{path}" for path in list_paths(snapshot)}
        parts = [key for key in self.store.list(prefix, older_than=IN_FLIGHT) if key.endswith(".parquet")]
        doomed = [key for key in parts if key not in named and "/_delta_log/" not in key and self._holds(key, where)]
        self.store.delete(doomed)
        return [key.removeprefix(f"{prefix}/") for key in doomed]

    def _holds(self, key: str, where: pc.Expression) -> bool:
        data = self.store.get_or_none(key)
        if data is None:
            return False
        rows = pq.ParquetFile(BytesIO(data)).read()
        return conform(rows, schema_of(key.split("/")[1])).filter(where).num_rows > 0

    def _dataset(
        self, table: str, *, flow: str | None = None, dates: Collection[str] | None = None, at: int | None = None
    ) -> Any:
        """A pyarrow dataset of the files of a flow and some dates; None where there can be no row."""
        snapshot = self._open(table, at)
        if snapshot is None and at is not None and self._open(table) is not None:
            raise NotFoundInLakeError(f"the log of the table {table} does not know version {at}")
        if snapshot is None or (dates is not None and not dates):
            return None
        with explained(self.table_uri(table)):
            return snapshot.to_pyarrow_dataset(file_pruning_predicate=_pruning(flow, dates))

    def _open(self, table: str, at: int | None = None) -> DeltaTable | None:
        schema_of(table)
        return TableAddress(self.table_uri(table), self.storage_options).open(at)

    def _rows(
        self,
        table: str,
        flow: str | None,
        dates: Collection[str] | None,
        columns: Sequence[str] | None,
        at: int | None,
    ) -> pa.Table:
        wanted = _wanted(table, columns)
        dataset = self._dataset(table, flow=flow, dates=dates, at=at)
        if dataset is None:
            return wanted.empty_table()
        with explained(self.table_uri(table)):
            return conform(dataset.to_table(columns=_present(dataset, wanted)), wanted)

    def _vacuum(
        self, table: str, older_than: timedelta, *, unknown: bool, dry: bool = False, keep: Collection[int] = ()
    ) -> list[str]:
        """``unknown``: also files that the log does not name."""
        hours = int(older_than.total_seconds() // 3600)
        known = [version for version in sorted(keep) if self._open(table, version) is not None]
        for attempt in attempts(self.table_uri(table)):
            with attempt, explained(self.table_uri(table)):
                snapshot = self._open(table)
                if snapshot is None:
                    break
                return snapshot.vacuum(
                    retention_hours=hours,
                    dry_run=dry,
                    enforce_retention_duration=False,
                    full=unknown,
                    keep_versions=known or None,
                )
        return []

    def _commit(self, table: str, make_parts: Any, app: str, version: int) -> bool:
        address = TableAddress(self.table_uri(table), self.storage_options)

        def discard(parts: Sequence[Part]) -> None:
            self.store.delete([f"{_prefix(table)}/{part.path}" for part in parts])

        return commit_once(address, schema_of(table), make_parts, app=app, version=version, discard=discard)


def open_lake(config: FlywheelConfig) -> Lake:
    """The lake a configuration names."""
    return Lake(config.lake_uri(), config.lake.storage_options)


def _prefix(table: str) -> str:
    return f"tables/{table}"


def _field(schema: pa.Schema, table: str, name: str) -> pa.Field:
    if name not in schema.names:
        raise LakeError(f"table {table} has no column '{name}'; its columns are {', '.join(schema.names)}")
    return schema.field(name)


def _wanted(table: str, columns: Sequence[str] | None) -> pa.Schema:
    schema = schema_of(table)
    return schema if columns is None else pa.schema([_field(schema, table, name) for name in columns])


def _present(dataset: Any, wanted: pa.Schema) -> list[str]:
    """Columns that the stored table has; it may be older than the row type."""
    return [name for name in wanted.names if name in dataset.schema.names]


def _pruning(flow: str | None, dates: Collection[str] | None) -> list[tuple[str, str, Any]] | None:
    filters: list[tuple[str, str, Any]] = []
    if flow is not None:
        filters.append(("flow", "in", [flow, SHARED_FLOW]))
    if dates is not None:
        filters.append(("date", "in", sorted(dates)))
    return filters or None
