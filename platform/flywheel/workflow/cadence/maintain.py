"""Upkeep of the lake: small files merged, files deleted that nobody can need any more.

Nothing reads a table's history but turns: each fixes versions in its snapshot, and what it scored names one. A dataset
version is a manifest of rows. So besides what is younger than ``KEEP``, which outlasts the longest read, the versions
stay that the newest turn of a flow that scored, and all behind it, have fixed.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

from pydantic import Field

from flywheel.lake.schemas import MODELS
from flywheel.lake.tables import Lake
from flywheel.records import Record, utcnow
from flywheel.telemetry import Progress, Silent
from flywheel.workflow.turns.steps import TurnHandle, turn_ids
from flywheel.workflow.turns.turn import step_key

KEEP: Final = timedelta(days=7)
"""Files that were replaced less than this ago stay."""


class Upkeep(Record):
    """What was done, or (``dry``) would be, to each table."""

    dry: bool
    keep_hours: int = Field(description="files replaced less than so long ago, or read by a turn, stayed")
    merged: dict[str, int] = Field(description="table -> files fewer; in a dry run files there are")
    deleted: dict[str, int] = Field(description="table -> files that no version in use needs")


def maintain(lake: Lake, *, dry: bool = False, progress: Progress | None = None) -> Upkeep:
    """Merge small files of every table, then delete those that are no longer needed. May run beside anything.

    Args:
        lake: the lake, with all its flows.
        dry: change nothing.
        progress: told about every table.
    """
    progress = progress or Silent()
    pinned = pinned_versions(lake)
    merged: dict[str, int] = {}
    deleted: dict[str, int] = {}
    progress.start("maintain", f"{len(MODELS)} tables")
    for done, table in enumerate(sorted(MODELS), start=1):
        if lake.version(table) is not None:
            merged[table] = lake.file_count(table) if dry else lake.compact(table)
            deleted[table] = len(lake.vacuum(table, older_than=KEEP, keep=pinned.get(table, ()), dry=dry))
        progress.update(done, len(MODELS), "tables")
    if not dry:
        lake.store.remove_staged()
    progress.finish(f"{sum(deleted.values()):,} files {'to delete' if dry else 'deleted'}")
    return Upkeep(dry=dry, keep_hours=int(KEEP / timedelta(hours=1)), merged=merged, deleted=deleted)


def maintain_daily(lake: Lake, *, progress: Progress | None = None) -> Upkeep | None:
    """``maintain`` once a day, of however many callers; None where it was done today."""
    key = f"maintenance/{utcnow():%Y-%m-%d}"
    return maintain(lake, progress=progress) if lake.store.put_if_absent(key, b"") else None


def pinned_versions(lake: Lake) -> dict[str, set[int]]:
    """Table -> versions that a turn may still read."""
    found: dict[str, set[int]] = {}
    for flow in lake.store.folders("turns"):
        for table, version in _pinned(lake, flow):
            found.setdefault(table, set()).add(version)
    return found


def _pinned(lake: Lake, flow: str) -> Iterator[tuple[str, int]]:
    """What the newest turn of a flow that scored has fixed, and all behind it."""
    for turn_id in reversed(turn_ids(lake.store, flow)):
        turn = TurnHandle(lake.store, flow, turn_id)
        snapshot: dict[str, Any] = turn.read(step_key("snapshot")) or {}
        yield from ((table, version) for table, version in snapshot.get("tables", {}).items() if version is not None)
        scored: dict[str, Any] | None = turn.read(step_key("score"))
        if scored is not None:  # labels in the informative queue look at its scores
            if scored.get("table_version"):
                yield "signals", scored["table_version"]
            return
