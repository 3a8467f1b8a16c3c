"""Exactly-once commits to a Delta table.

A batch is named by (app, version), which Delta stores as a transaction in the same commit as the
files. The order matters: ONE snapshot is opened, its last transaction of the app is looked at, and
the commit is made from that same snapshot. Then delta-rs refuses the commit if another process has
committed for this app in between; from a newer snapshot it would accept the batch a second time.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Schema, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.schema import ArrayType, StructType
from deltalake.transaction import AddAction
from tenacity import AttemptManager, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from flywheel.errors import BusyError, LakeError
from flywheel.lake.problems import explained
from flywheel.lake.schemas import PARTITIONS
from flywheel.lake.store import ObjectStore, sync_file

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")
ATTEMPTS = 20
TABLE_CONFIGURATION: Mapping[str, str] = {
    "delta.checkpointInterval": "20",
    # No min/max of any column in the log: text must not be in it, and files are found by partition.
    "delta.dataSkippingNumIndexedCols": "0",
}


@dataclass(frozen=True)
class Part:
    """One Parquet file of one partition, written under the table's address but not yet committed."""

    path: str
    size: int
    rows: int
    flow: str
    date: str


@dataclass(frozen=True)
class TableAddress:
    """Where a Delta table lies and how to reach it."""

    uri: str
    options: Mapping[str, str]

    def open(self, at: int | None = None) -> DeltaTable | None:
        """The newest snapshot (or version ``at``); None where there is no table yet."""
        with explained(self.uri):
            try:
                return DeltaTable(self.uri, version=at, storage_options=dict(self.options))
            except TableNotFoundError:
                return None

    def ensure(self, schema: pa.Schema) -> DeltaTable:
        """Open the table, made first if missing (one of several racing processes makes it), with all fields.

        Raises:
            LakeError: a field has another type than the row type's, which no widening can mend.
        """
        table = self.open() or self._create(schema)
        if _lacking(table, schema):
            table = self._widen(schema)
        if wrong := _lacking(table, schema):
            raise LakeError(
                f"the table {self.uri} stores {', '.join(wrong)} in another form than this version writes; "
                "export it with the version that wrote it, and import the file into a new lake"
            )
        return table

    def _create(self, schema: pa.Schema) -> DeltaTable:
        with explained(self.uri):
            try:
                return DeltaTable.create(
                    self.uri,
                    schema=schema,
                    partition_by=list(PARTITIONS),
                    configuration=TABLE_CONFIGURATION,
                    storage_options=dict(self.options),
                )
            except DeltaError:
                table = self.open()  # lost the race, else the error stands
                if table is None:
                    raise
                return table

    def _widen(self, schema: pa.Schema) -> DeltaTable:
        """Add fields, nested ones too, that the row type gained since the table was made: an append of no rows."""
        for attempt in attempts(self.uri):
            with attempt, explained(self.uri):
                table = DeltaTable(self.uri, storage_options=dict(self.options))
                if _lacking(table, schema):
                    write_deltalake(table, schema.empty_table(), mode="append", schema_mode="merge")
        return DeltaTable(self.uri, storage_options=dict(self.options))


def _lacking(table: DeltaTable, schema: pa.Schema) -> list[str]:
    """Columns of ``schema`` that the table does not have, or has in a narrower form."""
    known = {field.name: field.type for field in table.schema().fields}
    return [field.name for field in Schema.from_arrow(schema).fields if not _covers(known.get(field.name), field.type)]


def _covers(stored: Any, written: Any) -> bool:
    """Whether a stored Delta type can hold what is written: the same, or a struct with at least its fields."""
    if isinstance(written, ArrayType) and isinstance(stored, ArrayType):
        return _covers(stored.element_type, written.element_type)
    if isinstance(written, StructType) and isinstance(stored, StructType):
        known = {field.name: field.type for field in stored.fields}
        return all(_covers(known.get(field.name), field.type) for field in written.fields)
    return stored == written


def write_parts(store: ObjectStore, prefix: str, data: pa.Table) -> list[Part]:
    """Write one Parquet file a partition under ``prefix``; they count only once committed."""
    parts = []
    for flow, date in _partitions(data):
        rows = data.filter((pc.field("flow") == flow) & (pc.field("date") == date)).drop_columns(list(PARTITIONS))
        parts.append(write_part(store, prefix, rows, flow, date))
    return parts


def write_part(store: ObjectStore, prefix: str, rows: pa.Table, flow: str, date: str) -> Part:
    """Write the rows of one partition, without its columns, as one file."""
    # Paths in the log are URIs: with these characters alone there is nothing to encode.
    path = f"flow={_UNSAFE.sub('_', flow)}/date={_UNSAFE.sub('_', date)}/part-{uuid.uuid4().hex}.zstd.parquet"
    body = parquet_bytes(rows)
    store.put(f"{prefix}/{path}", body)
    return Part(path, len(body), len(rows), flow, date)


def parquet_bytes(rows: pa.Table) -> bytes:
    """A Parquet file, zstd, without any column statistics (they would repeat texts in the footer)."""
    out = BytesIO()
    pq.write_table(rows, out, compression="zstd", write_statistics=False)
    return out.getvalue()


def commit_once(
    address: TableAddress,
    schema: pa.Schema,
    make_parts: Callable[[], Sequence[Part]],
    *,
    app: str,
    version: int,
    discard: Callable[[Sequence[Part]], None],
) -> bool:
    """Commit the parts as (app, version) exactly once. True: by this call. False: it was there already.

    ``make_parts`` is called at most once, and not at all for a batch that is there already. An empty
    list is committed too: it marks the batch as done for this table. Parts whose batch somebody else
    commits first are handed to ``discard``: rows that were left out there must not lie about here.

    Raises:
        BusyError: other writers won every attempt.
    """
    parts: Sequence[Part] | None = None
    for attempt in attempts(address.uri):
        with attempt:
            table = address.ensure(schema)
            last = table.transaction_version(app)
            if last is not None and last >= version:
                if parts is None or _holds(table, parts):
                    return parts is not None
                discard(parts)
                return False
            if parts is None:
                parts = make_parts()
            with explained(address.uri):
                _commit(table, parts, app, version)
            sync_log(address.uri, table.version())
    return True


def log_entry(prefix: str, version: int) -> str:
    """Where the store keeps what one commit to the table under ``prefix`` did."""
    return f"{prefix}/_delta_log/{version:020d}.json"


def add_action(part: Part, now_ms: int, *, data_change: bool = True) -> AddAction:
    """How the log names a part: its partition and row count, and no statistics of any column."""
    return AddAction(
        path=part.path,
        size=part.size,
        partition_values={"flow": part.flow, "date": part.date},
        modification_time=now_ms,
        data_change=data_change,
        stats=json.dumps({"numRecords": part.rows}),
    )


def attempts(uri: str) -> Iterator[AttemptManager]:
    """Attempts at a commit that others may win; ``CommitFailedError`` inside one leads to the next.

    Raises:
        BusyError: other writers won every attempt.
    """
    return iter(
        Retrying(
            retry=retry_if_exception_type(CommitFailedError),
            wait=wait_random_exponential(multiplier=0.02, max=1.0),
            stop=stop_after_attempt(ATTEMPTS),
            retry_error_cls=lambda _: BusyError(  # pyright: ignore[reportArgumentType]
                f"{uri}: other writers won {ATTEMPTS} commits in a row; wait for them and run the same command again"
            ),
        )
    )


def sync_log(uri: str, version: int) -> None:
    """On a folder: flush the log entries after ``version`` to the disk, ours among them."""
    if uri.startswith("s3://"):
        return
    log = Path(uri) / "_delta_log"
    while (entry := log / f"{(version := version + 1):020d}.json").exists():
        sync_file(entry)


def _commit(table: DeltaTable, parts: Sequence[Part], app: str, version: int) -> None:
    now = int(time.time() * 1000)
    table.create_write_transaction(
        [add_action(part, now) for part in parts],
        mode="append",
        schema=table.schema(),
        partition_by=list(PARTITIONS),
        commit_properties=CommitProperties(app_transactions=[Transaction(app, version)]),
    )


def _holds(table: DeltaTable, parts: Sequence[Part]) -> bool:
    """After a conflict: was it our own commit, whose answer was lost on the way, that won?"""
    if not parts:
        return False
    uris = set(table.file_uris())
    return any(uri.endswith(parts[0].path) for uri in uris)


def _partitions(data: pa.Table) -> list[tuple[str, str]]:
    groups = data.select(list(PARTITIONS)).group_by(list(PARTITIONS)).aggregate([])
    return sorted(zip(groups["flow"].to_pylist(), groups["date"].to_pylist(), strict=True))
