"""Deletion: take rows out of a Delta table while others append to it, compact it or delete from it.

A file that holds such rows is replaced by a copy without them. All replacements are one commit, made only if
nobody else committed since the snapshot was opened: delta-rs would let a compaction and a replacement of the
same file both through, and every other row of the file would be there twice. A lost race costs a look at what
is new, because a file never changes and its copy stays right for as long as the file is in the table.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction, RemoveAction
from pyarrow.dataset import ParquetFileFragment

from flywheel.lake.commits import Part, TableAddress, add_action, attempts, sync_log, write_part
from flywheel.lake.problems import explained
from flywheel.lake.schemas import PARTITIONS
from flywheel.lake.store import ObjectStore


@dataclass(frozen=True)
class _File:
    """A file of the table."""

    path: str
    partition: dict[str, str]
    size: int
    data: ParquetFileFragment
    schema: pa.Schema


@dataclass(frozen=True)
class _Swap:
    """A file with rows that must go, and its copy without them (None: nothing is left)."""

    remove: RemoveAction
    copy: Part | None
    rows: int


def delete_rows(address: TableAddress, store: ObjectStore, prefix: str, where: pc.Expression) -> int:
    """Take the rows that ``where`` is true of out of the newest version of a table; returns how many there were.

    The files that held them stay on the disk, for older versions, until they are vacuumed.

    Args:
        address: the table.
        store: where it lies.
        prefix: of its files in the store.
        where: which rows; those it is null of stay.

    Raises:
        BusyError: other writers won every attempt; nothing was removed.
    """
    work = _Deletion(store, prefix, where)
    for attempt in attempts(address.uri):
        with attempt, explained(address.uri):
            table = address.open()
            if table is None:
                return 0
            try:
                due = work.look(table)
            except FileNotFoundError as error:
                raise CommitFailedError("a file was replaced and vacuumed by somebody else meanwhile") from error
            if due:
                _commit(table, due)
                sync_log(address.uri, table.version())
                work.done += due
    return sum(swap.rows for swap in work.done)


@dataclass
class _Deletion:
    """What is known of a table's files between two attempts."""

    store: ObjectStore
    prefix: str
    where: pc.Expression
    clean: set[str] = field(default_factory=set)
    swaps: dict[str, _Swap] = field(default_factory=dict)
    done: list[_Swap] = field(default_factory=list)

    def look(self, table: DeltaTable) -> list[_Swap]:
        """The replacements that the newest version needs; files that were seen before are not read again."""
        files = {file.path: file for file in _files(table)}
        for path in self.swaps.keys() - files.keys():
            swap = self.swaps.pop(path)
            if swap.copy is not None and swap.copy.path in files:
                self.done.append(swap)  # our own commit, whose answer was lost
        for path in files.keys() - self.swaps.keys() - self.clean:
            swap = self._swap(files[path])
            if swap is None:
                self.clean.add(path)
            else:
                self.swaps[path] = swap
        return list(self.swaps.values())

    def _swap(self, file: _File) -> _Swap | None:
        rows = file.data.scanner(schema=file.schema, filter=self.where).count_rows()
        if rows == 0:
            return None
        stays = ~(self.where & self.where.is_valid())
        columns = file.data.physical_schema.names
        kept = file.data.to_table(columns=columns, filter=stays, schema=file.schema)
        flow, date = (file.partition[name] for name in PARTITIONS)
        copy = write_part(self.store, self.prefix, kept, flow, date) if len(kept) else None
        now, values = int(time.time() * 1000), dict[str, str | None](file.partition)
        return _Swap(RemoveAction(file.path, True, now, file.size, values), copy, rows)


def _files(table: DeltaTable) -> Iterator[_File]:
    listed = {row["path"]: row for row in pa.table(table.get_add_actions(flatten=True)).to_pylist()}
    dataset = table.to_pyarrow_dataset()
    for fragment in dataset.get_fragments():
        row = listed[fragment.path]
        partition = {name: row[f"partition.{name}"] for name in PARTITIONS}
        yield _File(fragment.path, partition, row["size_bytes"], fragment, dataset.schema)


def _commit(table: DeltaTable, swaps: Sequence[_Swap]) -> None:
    now = int(time.time() * 1000)
    actions: list[AddAction | RemoveAction] = [swap.remove for swap in swaps]
    actions += [add_action(swap.copy, now) for swap in swaps if swap.copy is not None]
    table.create_write_transaction(
        actions,
        mode="append",
        schema=table.schema(),
        partition_by=list(PARTITIONS),
        commit_properties=CommitProperties(max_commit_retries=0),
    )
