"""Cleaning: remove raw segments that are in the tables and older than the retention time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from flywheel.capture import batches, landing
from flywheel.capture.batches import Batch, Done
from flywheel.lake.store import ObjectStore
from flywheel.records import utcnow


class Cleaned(NamedTuple):
    """What a cleaning did."""

    newest: int
    """Batches up to this one are clean."""
    removed: int
    """Segments."""
    gone: frozenset[str]
    """Outboxes without segments to come: the next batch can leave them out of its cursor."""


def clean(store: ObjectStore, last: Batch, done: Done, cleaned: int, retention: timedelta) -> Cleaned:
    """Delete what is covered by batches older than ``retention``.

    Everything behind the cursor of the newest old batch goes, whichever batch held it: a segment that
    was sent again after its removal goes too. Segments with rows that still wait stay.

    Args:
        store: the lake's objects.
        last: the newest ended batch.
        done: its end, with the rows that wait.
        cleaned: batches up to this one were cleaned before.
        retention: how long raw segments are kept.
    """
    newest = _newest_before(store, last, cleaned, utcnow() - retention)
    if newest == 0:
        return Cleaned(cleaned, 0, frozenset())
    cursor = last.cursor if newest == last.n else batches.read_batch(store, last.flow, newest).cursor
    keep = {item.segment for item in done.waiting}
    old: list[str] = []
    closed: list[str] = []
    for outbox in store.folders(landing.folder(last.flow)):
        keys = store.list(f"{landing.folder(last.flow)}/{outbox}")
        end = cursor[outbox].hi if outbox in cursor else 0
        spent = [key for key in keys if key not in keep and _ends_by(key, end)]
        old += spent
        if set(keys) - set(spent) == {landing.closed_key(last.flow, outbox)}:
            closed.append(outbox)
    store.delete(old)
    forgotten = [landing.closed_key(last.flow, outbox) for outbox in closed if outbox not in last.cursor]
    store.delete(forgotten)
    return Cleaned(newest, len(old), frozenset(outbox for outbox in closed if outbox in last.cursor))


def _ends_by(key: str, end: int) -> bool:
    segment = landing.parse(key)
    return segment is not None and segment.hi <= end


def _newest_before(store: ObjectStore, last: Batch, cleaned: int, cutoff: datetime) -> int:
    """The newest batch created before ``cutoff``, by bisection over the ledger; ``cleaned`` if none is newer."""
    if last.n == 0 or last.created < cutoff:
        return last.n
    low, high = cleaned, last.n
    while high - low > 1:
        middle = (low + high) // 2
        if batches.read_batch(store, last.flow, middle).created < cutoff:
            low = middle
        else:
            high = middle
    return low
