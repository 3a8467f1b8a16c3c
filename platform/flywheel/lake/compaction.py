"""Compaction: merge the small files that many appends leave, while others append, delete and compact.

delta-rs has one too, but lets two compactions of the same version both through (and ignores ``max_commit_retries``
and application transactions there), so that two ingesters at once would double a table. This one commits as swaps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

import pyarrow as pa
from deltalake import DeltaTable

from flywheel.errors import BusyError, NotFoundInLakeError
from flywheel.lake.commits import Part, TableAddress, attempts, write_part
from flywheel.lake.problems import explained
from flywheel.lake.schemas import SHARED_FLOW
from flywheel.lake.store import ObjectStore
from flywheel.lake.swaps import File, Swap, commit_swaps, committed_since, list_files, list_paths

TARGET_BYTES: Final = 32 * 2**20
"""Files are merged up to this size, which bounds the memory; one that has half of it already is left alone."""


def compact_files(address: TableAddress, store: ObjectStore, prefix: str, flow: str | None = None) -> int:
    """Merge the small files of each partition, of one flow and of all flows together, or of every flow.

    Each merger is a commit of its own: what is done stays done if this is killed.

    Args:
        address: the table.
        store: where it lies.
        prefix: of its files in the store.
        flow: whose partitions; None: of all.

    Returns:
        How many files fewer there are. Files that others replaced meanwhile, or whose merger was overtaken every
        time, are left to the next compaction.
    """
    with explained(address.uri):
        table = address.open()
        files = [] if table is None else list_files(table)
    wanted = [file for file in files if flow is None or file.flow in {flow, SHARED_FLOW}]
    return sum(_merged(address, store, prefix, group) for group in bins(wanted))


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


def _merged(address: TableAddress, store: ObjectStore, prefix: str, group: Sequence[File]) -> int:
    try:
        with explained(address.uri):
            rows = pa.concat_tables([file.read() for file in group], promote_options="default")
    except NotFoundInLakeError:
        return 0  # replaced and scrubbed by somebody else meanwhile
    with explained(address.uri):
        copy = write_part(store, prefix, rows, group[0].flow, group[0].date)
    if _committed(address, store, prefix, group, copy):
        return len(group) - 1
    # Rows that others erase must not lie about in a copy that no version will ever name.
    store.delete([f"{prefix}/{copy.path}"])
    return 0


def _committed(address: TableAddress, store: ObjectStore, prefix: str, group: Sequence[File], copy: Part) -> bool:
    """Put the copy in the place of its files while they are all there; a lost race costs another look, no copy."""
    seen: int | None = None

    def ours(table: DeltaTable) -> bool:
        return seen is not None and committed_since(store, prefix, copy, seen, table.version())

    try:
        for attempt in attempts(address.uri):
            with attempt, explained(address.uri):
                table = DeltaTable(address.uri, storage_options=dict(address.options))
                if ours(table):
                    return True
                if not list_paths(table).issuperset(file.path for file in group):
                    return False
                seen = table.version()
                commit_swaps(address, table, [Swap(tuple(group), copy)], data_change=False)
                return True
    except BusyError:
        with explained(address.uri):
            return ours(DeltaTable(address.uri, storage_options=dict(address.options)))
    return False


def _partition(file: File) -> tuple[str, str]:
    return file.flow, file.date
