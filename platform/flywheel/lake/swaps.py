"""Swaps: replace files of a Delta table by copies that hold the same rows, or fewer of them.

All replacements are one commit, made only if nobody else committed since the snapshot was opened. delta-rs would let
two swaps of one file through when one of them says that it changes no data, and every row of the file would then be
there twice. A lost race costs little: a file never changes, so its copy stays right while the file is in the table.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable
from deltalake.transaction import AddAction, RemoveAction
from pyarrow.dataset import ParquetFileFragment

from flywheel.lake.commits import Part, TableAddress, add_action, log_entry, sync_log
from flywheel.lake.schemas import PARTITIONS
from flywheel.lake.store import ObjectStore


@dataclass(frozen=True)
class File:
    """A file of a table; ``written`` in milliseconds since 1970."""

    path: str
    flow: str
    date: str
    size: int
    written: int
    data: ParquetFileFragment
    schema: pa.Schema

    def read(self, where: pc.Expression | None = None) -> pa.Table:
        """Its rows, without the columns of the partition."""
        return self.data.to_table(columns=self.data.physical_schema.names, filter=where, schema=self.schema)


@dataclass(frozen=True)
class Swap:
    """Files of one partition that go, and their copy (None: nothing is left). ``rows``: how many are not in it."""

    files: tuple[File, ...]
    copy: Part | None
    rows: int = 0


def committed_since(store: ObjectStore, prefix: str, copy: Part, seen: int, now: int) -> bool:
    """Whether a commit after version ``seen`` names the copy: ours, whose answer was lost on the way.

    A copy that none names never will be, once its files are gone; then it may be deleted.
    """
    name = copy.path.encode()
    return any(name in store.get(log_entry(prefix, n)) for n in range(seen + 1, now + 1))


def list_paths(table: DeltaTable) -> set[str]:
    """The paths of a snapshot's files: what a look at the log alone can tell."""
    return set(pa.table(table.get_add_actions(flatten=True))["path"].to_pylist())


def list_files(table: DeltaTable) -> list[File]:
    """The files of a snapshot, the oldest first."""
    listed = {row["path"]: row for row in pa.table(table.get_add_actions(flatten=True)).to_pylist()}
    dataset, found = table.to_pyarrow_dataset(), list[File]()
    for fragment in dataset.get_fragments():
        row = listed[fragment.path]
        flow, date = (row[f"partition.{name}"] for name in PARTITIONS)
        written = row["modification_time"]
        found.append(File(fragment.path, flow, date, row["size_bytes"], written, fragment, dataset.schema))
    return sorted(found, key=lambda file: (file.written, file.path))


def commit_swaps(address: TableAddress, table: DeltaTable, swaps: Sequence[Swap], *, data_change: bool) -> None:
    """Commit onto exactly this snapshot. ``data_change``: rows go, so that who reads what is new must begin again.

    Raises:
        CommitFailedError: somebody else committed since.
    """
    now = int(time.time() * 1000)
    actions: list[AddAction | RemoveAction] = []
    for swap in swaps:
        for file in swap.files:
            values: dict[str, str | None] = {"flow": file.flow, "date": file.date}
            actions.append(RemoveAction(file.path, data_change, now, file.size, values))
        if swap.copy is not None:
            actions.append(add_action(swap.copy, now, data_change=data_change))
    version = table.version()
    table.create_write_transaction(
        actions,
        mode="append",
        schema=table.schema(),
        partition_by=list(PARTITIONS),
        commit_properties=CommitProperties(max_commit_retries=0),
    )
    sync_log(address.uri, version)
