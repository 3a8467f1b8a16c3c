"""Compaction: merge the small files that many appends leave, while others append, delete and compact.

delta-rs has one too, but lets two compactions of the same version both through (and ignores ``max_commit_retries``
and application transactions there), so that two ingesters at once would double a table. This one commits as a swap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from flywheel.errors import BusyError
from flywheel.lake.commits import TableAddress, attempts, log_entry, write_part
from flywheel.lake.problems import explained
from flywheel.lake.schemas import SHARED_FLOW
from flywheel.lake.store import ObjectStore
from flywheel.lake.swaps import File, Swap, commit_swaps, list_files

TARGET_BYTES: Final = 64 * 2**20
"""Files are merged up to this size, which bounds the memory; one that has half of it already is left alone."""


def compact_files(address: TableAddress, store: ObjectStore, prefix: str, flow: str | None = None) -> int:
    """Merge the small files of each partition, of one flow and of all flows together, or of every flow.

    Args:
        address: the table.
        store: where it lies.
        prefix: of its files in the store.
        flow: whose partitions; None: of all.

    Returns:
        How many files fewer there are. 0 too when others were quicker every time: the next compaction will do.
    """
    work = _Compaction(store, prefix, flow)
    try:
        for attempt in attempts(address.uri):
            with attempt, explained(address.uri):
                table = address.open()
                if table is None or not work.look(table):
                    break
                commit_swaps(address, table, work.swaps, data_change=False)
                work.fewer = _fewer(work.swaps)
    except BusyError:
        work.discard(work.swaps)
    return work.fewer


@dataclass
class _Compaction:
    """What was merged already, between two attempts to commit it."""

    store: ObjectStore
    prefix: str
    flow: str | None
    swaps: list[Swap] = field(default_factory=list)
    seen: int | None = None
    """The version that the last attempt was made on."""
    fewer: int = 0

    def look(self, table: DeltaTable) -> list[Swap]:
        """What to commit onto this version; files are read and copied at the first look only."""
        files, seen, self.seen = list_files(table), self.seen, table.version()
        if seen is None:
            self._merge(files)
        elif self._committed(seen):
            self.fewer, self.swaps = _fewer(self.swaps), []
        else:
            here = {file.path for file in files}
            lost = [swap for swap in self.swaps if not here.issuperset(file.path for file in swap.files)]
            self.swaps = [swap for swap in self.swaps if swap not in lost]
            self.discard(lost)
        return self.swaps

    def discard(self, swaps: Sequence[Swap]) -> None:
        """Remove copies that were never committed: rows that others erase must not lie about in them."""
        self.store.delete([f"{self.prefix}/{swap.copy.path}" for swap in swaps if swap.copy is not None])

    def _merge(self, files: Sequence[File]) -> None:
        try:
            for group in bins([file for file in files if self.flow is None or file.flow in {self.flow, SHARED_FLOW}]):
                rows = pa.concat_tables([file.read() for file in group], promote_options="default")
                copy = write_part(self.store, self.prefix, rows, group[0].flow, group[0].date)
                self.swaps.append(Swap(tuple(group), copy))
        except BaseException as error:
            self.discard(self.swaps)
            self.swaps, self.seen = [], None
            if isinstance(error, FileNotFoundError):
                raise CommitFailedError("a file was replaced and removed by somebody else meanwhile") from error
            raise

    def _committed(self, seen: int) -> bool:
        """After a conflict: was it our own commit, whose answer was lost on the way, that won?"""
        own = [swap.copy.path.encode() for swap in self.swaps if swap.copy is not None]
        entries = (self.store.get(log_entry(self.prefix, n)) for n in range(seen + 1, (self.seen or 0) + 1))
        return any(own[0] in entry for entry in entries)


def bins(files: Sequence[File]) -> Iterator[list[File]]:
    """Small files of one partition that become one: at least two, and ``TARGET_BYTES`` together at the most."""
    small = [file for file in files if file.size < TARGET_BYTES // 2]
    for _, partition in groupby(sorted(small, key=_partition), key=_partition):
        group, size = list[File](), 0
        for file in partition:
            if size + file.size > TARGET_BYTES:
                if len(group) > 1:
                    yield group
                group, size = [], 0
            group.append(file)
            size += file.size
        if len(group) > 1:
            yield group


def _partition(file: File) -> tuple[str, str]:
    return file.flow, file.date


def _fewer(swaps: Sequence[Swap]) -> int:
    return sum(len(swap.files) - 1 for swap in swaps)
