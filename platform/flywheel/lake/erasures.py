"""The ledger of erasures: who was erased, up to when, and what was made of their data.

``erasures/people/<tenant>/<subject>/<microseconds>.json`` is written first, once. From then on every event of
that subject up to that moment is dropped wherever it turns up, and its rows are taken out of every store. Later
events are new traffic. A person can be erased again; the latest moment counts.

``erasures/tainted/<kind>/<flow>/<id>.json`` marks a manifest whose artifact was made of erased rows, directly or
through its parents. Marks name nobody and are never removed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from flywheel.errors import NotFoundInLakeError
from flywheel.lake.manifests import Manifest, lineage
from flywheel.lake.store import ObjectStore, Strip
from flywheel.lake.tables import Lake
from flywheel.records import Record, utcnow

PEOPLE: Final = "erasures/people"
TAINTED: Final = "erasures/tainted"
REPORTS: Final = "erasures/reports"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Tombstone(Record):
    """One erasure of one person. ``subject`` is the keyed pseudonym; the user id is written nowhere."""

    tenant: str
    subject: str
    until: datetime

    @property
    def key(self) -> str:
        """Where it lies; the name says all, so that a listing is enough."""
        return f"{PEOPLE}/{self.tenant}/{self.subject}/{_micros(self.until):020d}.json"

    @property
    def report_key(self) -> str:
        """Where the report of the finished erasure lies."""
        return f"{REPORTS}/{self.tenant}/{self.subject}/{_micros(self.until):020d}.json"


@dataclass(frozen=True)
class Erasures:
    """Everybody who was erased, and up to when."""

    until: Mapping[str, datetime]

    def __bool__(self) -> bool:
        return bool(self.until)

    def covers(self, subject: str, moment: datetime) -> bool:
        """Whether something of ``subject`` from ``moment`` is erased."""
        end = self.until.get(subject)
        return end is not None and moment <= end


class Mark(Record):
    """What a mark says about a manifest: since when, and how many erased row ids it names itself."""

    ref: str
    flow: str
    since: datetime
    rows: int


def bury(store: ObjectStore, tenant: str, subject: str) -> Tombstone:
    """Begin an erasure: everything of ``subject`` up to now."""
    stone = Tombstone(tenant=tenant, subject=subject, until=utcnow())
    store.put_if_absent(stone.key, stone.model_dump_json().encode())
    return stone


def tombstones(store: ObjectStore, tenant: str, subject: str) -> list[Tombstone]:
    """The erasures of one person, oldest first."""
    keys = store.list(f"{PEOPLE}/{tenant}/{subject}")
    return [Tombstone(tenant=tenant, subject=subject, until=_moment(key)) for key in keys]


def read_erasures(store: ObjectStore) -> Erasures:
    """All erasures of all tenants, from one listing (pseudonyms of two tenants never meet)."""
    # Keys sort by subject, then time: the last one of a subject stays.
    return Erasures({key.rsplit("/", 2)[1]: _moment(key) for key in store.list(PEOPLE)})


def mark_tainted(store: ObjectStore, manifest: Manifest, *, rows: int) -> bool:
    """Mark a manifest; False: it was marked before."""
    mark = Mark(ref=manifest.ref, flow=manifest.flow, since=utcnow(), rows=rows)
    return store.put_if_absent(_mark_key(manifest.kind, manifest.flow, manifest.id), mark.model_dump_json().encode())


def tainted_lineage(lake: Lake, kind: str, manifest_id: str) -> list[str] | None:
    """Which of a manifest and its ancestors are marked, as ``kind/id``; None when an ancestor is missing.

    Costs one listing as long as nobody was erased.
    """
    marks = set(lake.store.list(TAINTED))
    if not marks:
        return []
    try:
        walk = lineage(lake, kind, manifest_id)
    except NotFoundInLakeError:
        return None
    return [item.ref for item in walk if _mark_key(item.kind, item.flow, item.id) in marks]


def lines_without(doomed: Callable[[dict[str, Any]], bool]) -> Strip:
    """For ``ObjectStore.strip``: JSON lines without those that are ``doomed``, the others byte for byte."""

    def without(data: bytes) -> tuple[bytes, int]:
        lines = data.splitlines(keepends=True)
        kept = [line for line in lines if not doomed(json.loads(line))]
        return b"".join(kept), len(lines) - len(kept)

    return without


def _mark_key(kind: str, flow: str, manifest_id: str) -> str:
    return f"{TAINTED}/{kind}/{flow}/{manifest_id}.json"


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _moment(key: str) -> datetime:
    return _EPOCH + timedelta(microseconds=int(key.rsplit("/", 1)[1].removesuffix(".json")))
