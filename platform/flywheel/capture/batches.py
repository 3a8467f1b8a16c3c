"""Batches: the ledger of ingestion. Two small objects a batch, each written once, never removed.

``batches/<flow>/<n>.json`` fixes which segments batch n holds, before anything is committed.
``batches/<flow>/<n>.done.json`` says that every table has it, and what came of its rows. Batch n+1
starts from the two objects of batch n alone, so history is never read again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from itertools import chain, zip_longest
from typing import Final, Self

from pydantic import Field

from flywheel.capture import landing
from flywheel.capture.landing import Segment
from flywheel.lake.store import ObjectStore
from flywheel.records import Record, utcnow

MAX_EVENTS: Final = 20_000
"""Events in one batch at the most (at least one segment): bounds memory and the time to a commit."""

MAX_BYTES: Final = 64 * 2**20
"""Events in one batch at the most (at least one segment), in bytes as they are in memory: rows may be large."""


class Mark(Record):
    """How far an outbox is ingested: its highest sequence number, and when it last moved."""

    hi: int
    ts: datetime


class Waiting(Record):
    """A row whose inference has not arrived; it stays in its segment, which is kept for it."""

    segment: str
    seq: int
    since: datetime


class Counts(Record):
    """What became of events. Each one read is in one of rows, duplicates, quarantined, erased or still waiting."""

    events: int = Field(default=0, description="events read from segments")
    rows: dict[str, int] = Field(default_factory=dict, description="table -> rows")
    duplicates: int = Field(default=0, description="events that were in the tables already: retries")
    quarantined: dict[str, int] = Field(default_factory=dict, description="reason -> rows put aside")
    erased: int = Field(default=0, description="events of somebody who was erased")
    text_removed: int = Field(default=0, description="rows stored without text because nobody consented to any use")

    def plus(self, other: Counts) -> Self:
        """Both together."""
        return self.model_copy(
            update={
                "events": self.events + other.events,
                "rows": _sum(self.rows, other.rows),
                "duplicates": self.duplicates + other.duplicates,
                "quarantined": _sum(self.quarantined, other.quarantined),
                "erased": self.erased + other.erased,
                "text_removed": self.text_removed + other.text_removed,
            }
        )


class Batch(Record):
    """The segments of one micro-batch and how far every outbox is ingested with them."""

    n: int
    flow: str
    created: datetime = Field(default_factory=utcnow)
    segments: list[str]
    cursor: dict[str, Mark]


class Done(Record):
    """The end of one batch."""

    n: int
    flow: str
    counts: Counts = Field(default_factory=Counts)
    totals: Counts = Field(default_factory=Counts, description="counts of this and all earlier batches")
    waiting: list[Waiting] = Field(default_factory=list)
    cleaned: int = Field(default=0, description="raw segments of batches up to this one are removed")


def batch_key(flow: str, n: int) -> str:
    """Where the segment list of batch n lies."""
    return f"batches/{flow}/{n:010d}.json"


def done_key(flow: str, n: int) -> str:
    """Where the end of batch n lies."""
    return f"batches/{flow}/{n:010d}.done.json"


def quarantine_key(flow: str, n: int) -> str:
    """Where the rows lie that batch n put aside."""
    return f"quarantine/{flow}/{n:010d}.jsonl"


def read_batch(store: ObjectStore, flow: str, n: int) -> Batch:
    """The segment list of batch n, which must exist."""
    return Batch.model_validate_json(store.get(batch_key(flow, n)))


def read_done(store: ObjectStore, flow: str, n: int) -> Done | None:
    """The end of batch n; None while it is not finished. Batch 0 is always finished."""
    if n == 0:
        return Done(n=0, flow=flow)
    data = store.get_or_none(done_key(flow, n))
    return None if data is None else Done.model_validate_json(data)


def discover(store: ObjectStore, flow: str, cursor: Mapping[str, Mark], max_segments: int) -> list[Segment]:
    """Segments behind the cursor, at most ``max_segments``, ``MAX_EVENTS`` and ``MAX_BYTES``, the outboxes in turn.

    Only keys behind the cursor are listed. A segment that does not start where the last one ended
    waits until the listing shows the one in between.
    """
    found = [_next(store, flow, outbox, cursor) for outbox in store.folders(landing.folder(flow))]
    fair = (segment for segment in chain.from_iterable(zip_longest(*found)) if segment is not None)
    return _fitting(store, _limited(fair, max_segments))


def advance(
    cursor: Mapping[str, Mark], segments: Iterable[Segment], now: datetime, gone: Collection[str] = ()
) -> dict[str, Mark]:
    """The cursor behind ``segments``, without outboxes of which nothing more can come."""
    moved = {outbox: mark for outbox, mark in cursor.items() if outbox not in gone}
    for segment in segments:
        moved[segment.outbox] = Mark(hi=segment.hi, ts=now)
    return moved


def _next(store: ObjectStore, flow: str, outbox: str, cursor: Mapping[str, Mark]) -> list[Segment]:
    end = cursor[outbox].hi if outbox in cursor else 0
    keys = store.list(f"{landing.folder(flow)}/{outbox}", after=landing.just_before(flow, outbox, end + 1))
    segments = []
    for segment in filter(None, map(landing.parse, keys)):
        if segment.lo != end + 1:
            break
        segments.append(segment)
        end = segment.hi
    return segments


def _limited(segments: Iterable[Segment], max_segments: int) -> list[Segment]:
    taken: list[Segment] = []
    events = 0
    for segment in segments:
        events += segment.hi - segment.lo + 1  # numbers are shared by the flows of an outbox: an upper bound
        if taken and (len(taken) >= max_segments or events > MAX_EVENTS):
            break
        taken.append(segment)
    return taken


def _fitting(store: ObjectStore, segments: list[Segment]) -> list[Segment]:
    """The first ones that memory can hold together. They are looked into now: a batch that was begun stays as it is."""
    if len(segments) < 2:
        return segments
    total = 0
    for n, segment in enumerate(segments):
        total += landing.size(store.get(segment.key))
        if n and total > MAX_BYTES:
            return segments[:n]
    return segments


def _sum(a: Mapping[str, int], b: Mapping[str, int]) -> dict[str, int]:
    return dict(Counter(a) + Counter(b))
