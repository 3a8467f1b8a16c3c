"""Deletion: take rows out of a Delta table while others append to it, compact it or delete from it.

A file that holds such rows is swapped for a copy without them; after a lost race only what is new is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from flywheel.errors import BusyError
from flywheel.lake.commits import TableAddress, attempts, write_part
from flywheel.lake.problems import explained
from flywheel.lake.store import ObjectStore
from flywheel.lake.swaps import File, Swap, commit_swaps, committed_since, list_files


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
    try:
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
                    commit_swaps(address, table, due, data_change=True)
                    work.done += due
    except BusyError:
        if not work.committed(address):
            raise
    return sum(swap.rows for swap in work.done)


@dataclass
class _Deletion:
    """What is known of a table's files between two attempts."""

    store: ObjectStore
    prefix: str
    where: pc.Expression
    clean: set[str] = field(default_factory=set)
    swaps: dict[str, Swap] = field(default_factory=dict)
    done: list[Swap] = field(default_factory=list)
    seen: int = -1
    """The version that the last attempt was made on."""

    def look(self, table: DeltaTable) -> list[Swap]:
        """The replacements that the newest version needs; files that were seen before are not read again."""
        files = {file.path: file for file in list_files(table)}
        seen, self.seen = self.seen, table.version()
        for path in self.swaps.keys() - files.keys():
            self._overtaken(self.swaps.pop(path), seen)
        for path in files.keys() - self.swaps.keys() - self.clean:
            swap = self._swap(files[path])
            if swap is None:
                self.clean.add(path)
            else:
                self.swaps[path] = swap
        return list(self.swaps.values())

    def committed(self, address: TableAddress) -> bool:
        """After the last attempt: whether it was made after all; if not, its copies go."""
        table, seen = address.open(), self.seen
        if table is None:
            return False
        self.seen, known = table.version(), len(self.done)
        for swap in self.swaps.values():
            self._overtaken(swap, seen)
        return len(self.done) > known

    def _overtaken(self, swap: Swap, seen: int) -> None:
        """Its file was replaced by our own commit, whose answer was lost, or the copy is of no use any more."""
        if swap.copy is None:
            return
        if committed_since(self.store, self.prefix, swap.copy, seen, self.seen):
            self.done.append(swap)
        else:  # other people's rows, which whoever erases them next must not have to find in here
            self.store.delete([f"{self.prefix}/{swap.copy.path}"])

    def _swap(self, file: File) -> Swap | None:
        rows = file.data.scanner(schema=file.schema, filter=self.where).count_rows()
        if rows == 0:
            return None
        kept = file.read(~(self.where & self.where.is_valid()))
        copy = write_part(self.store, self.prefix, kept, file.flow, file.date) if len(kept) else None
        return Swap((file,), copy, rows)
