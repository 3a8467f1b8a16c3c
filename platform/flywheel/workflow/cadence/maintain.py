"""Upkeep of the lake: small files merged, files deleted that nobody can need any more.

Nothing reads a table's history but turns: each fixes versions in its snapshot, and what it scored names one. A dataset
version is a manifest of rows. So files stay that long at least as the newest turn of a flow, and any unfinished one,
may look back, and never less than ``KEEP``, which outlasts the longest read.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
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
_MARGIN: Final = timedelta(days=1)
"""Between the moment that a turn began and that it fixed its versions, with clocks that differ."""


class Upkeep(Record):
    """What was done, or (``dry``) would be, to each table."""

    dry: bool
    keep_hours: int = Field(description="files that were replaced less than so long ago stayed")
    merged: dict[str, int] = Field(description="table -> files fewer; in a dry run files there are")
    deleted: dict[str, int] = Field(description="table -> files that no version in use needs")


def maintain(lake: Lake, *, dry: bool = False, progress: Progress | None = None, now: datetime | None = None) -> Upkeep:
    """Merge small files of every table, then delete those that are no longer needed. May run beside anything.

    Args:
        lake: the lake, with all its flows.
        dry: change nothing.
        progress: told about every table.
        now: for tests.
    """
    progress = progress or Silent()
    keep = retention(lake, now or utcnow())
    merged: dict[str, int] = {}
    deleted: dict[str, int] = {}
    progress.start("maintain", f"{len(MODELS)} tables")
    for done, table in enumerate(sorted(MODELS), start=1):
        if lake.version(table) is not None:
            merged[table] = lake.file_count(table) if dry else lake.compact(table)
            deleted[table] = len(lake.vacuum(table, older_than=keep, dry=dry))
        progress.update(done, len(MODELS), "tables")
    progress.finish(f"{sum(deleted.values()):,} files {'to delete' if dry else 'deleted'}")
    return Upkeep(dry=dry, keep_hours=int(keep / timedelta(hours=1)), merged=merged, deleted=deleted)


def maintain_daily(lake: Lake, *, progress: Progress | None = None) -> Upkeep | None:
    """``maintain`` once a day, of however many callers; None where it was done today."""
    key = f"maintenance/{utcnow():%Y-%m-%d}"
    return maintain(lake, progress=progress) if lake.store.put_if_absent(key, b"") else None


def retention(lake: Lake, now: datetime) -> timedelta:
    """How long replaced files must stay, in whole hours: older than the snapshot of every turn that may be read."""
    begun = [datetime.fromisoformat(at) for flow in lake.store.folders("turns") for at in _pinned(lake, flow)]
    longest = max([KEEP, *(now - at + _MARGIN for at in begun)])
    return timedelta(hours=math.ceil(longest / timedelta(hours=1)))


def _pinned(lake: Lake, flow: str) -> list[str]:
    """When the newest turn of a flow that scored began, and all behind it."""
    found: list[str] = []
    for turn_id in reversed(turn_ids(lake.store, flow)):
        turn = TurnHandle(lake.store, flow, turn_id)
        begun: dict[str, Any] = turn.read("turn") or {}
        if "started" in begun:
            found.append(begun["started"])
        if turn.read(step_key("score")) is not None:  # labels in the informative queue look at its scores
            break
    return found
