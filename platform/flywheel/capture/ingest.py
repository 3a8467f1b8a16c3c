"""Ingest: move segments from ``landing/`` into the tables, each event exactly once.

For batch n of a flow: fix its segment list (put-if-absent), commit every table as ``(ingest/<flow>, n)``,
write its end (put-if-absent). Batch n+1 starts only when batch n has ended. Every table commits every
batch, an empty one too, so that an ingester that was asleep cannot commit an old batch anew. Whatever
dies, and however many ingesters run, a rerun repeats the same steps and each counts once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from pydantic import Field

from flywheel.capture import batches, cleaning
from flywheel.capture.batches import Batch, Counts, Done, Waiting
from flywheel.capture.erased import Erased
from flywheel.capture.intake import TABLE_OF, UNREADABLE, Arrived, Intake, Outcome, Refusal
from flywheel.capture.known import Known
from flywheel.capture.landing import Row, decode
from flywheel.capture.privatise import Privatiser
from flywheel.capture.statements import Statements, read_statements
from flywheel.config import FlywheelConfig
from flywheel.errors import CaptureError
from flywheel.lake.erasures import read_erasures
from flywheel.lake.keys import Keyring
from flywheel.lake.schemas import to_arrow
from flywheel.lake.tables import Lake
from flywheel.records import utcnow

log = logging.getLogger(__name__)

TABLES: Final[tuple[str, ...]] = tuple(TABLE_OF.values())
COMPACT_EVERY: Final = 200
"""Batches between two mergers of the small files that they leave."""


class IngestReport(Counts):
    """What one or more calls did. ``batches == 0``: nothing was there to do."""

    batches: int = 0
    segments: int = 0
    waiting: int = Field(default=0, description="reactions whose inference has not arrived yet")
    cleaned: int = Field(default=0, description="raw segments removed")


def ingest_once(lake: Lake, config: FlywheelConfig, keyring: Keyring) -> IngestReport:
    """Ingest one micro-batch, after finishing one that a dead ingester left. For loops, keep an ``Ingester``."""
    return Ingester(lake, config, keyring).run_once()


def ingest_all(lake: Lake, config: FlywheelConfig, keyring: Keyring) -> IngestReport:
    """Ingest until nothing new is in ``landing/``."""
    ingester = Ingester(lake, config, keyring)
    total = step = ingester.run_once()
    while step.batches:
        step = ingester.run_once()
        counted = {name: getattr(total, name) + getattr(step, name) for name in ("batches", "segments", "cleaned")}
        total = total.plus(step).model_copy(update={**counted, "waiting": step.waiting})
    return total


def read_totals(lake: Lake, flow: str) -> Counts:
    """What became of all events that were ever ingested for a flow."""
    last = lake.last_committed(TABLES[0], app_name(flow)) or 0
    done = batches.read_done(lake.store, flow, last) or batches.read_done(lake.store, flow, last - 1)
    return done.totals if done else Counts()


def begun_batch(lake: Lake, flow: str) -> int | None:
    """The batch of a flow that somebody is in the middle of, or died in; None: all that were begun have ended."""
    n = lake.last_committed(TABLES[0], app_name(flow)) or 0
    if batches.read_done(lake.store, flow, n) is None:
        return n
    return n + 1 if lake.store.exists(batches.batch_key(flow, n + 1)) else None


def app_name(flow: str) -> str:
    """The name under which ingestion of a flow commits."""
    return f"ingest/{flow}"


class Ingester:
    """Ingestion of one flow. Keeps what it read between batches; after an error it starts from the lake again."""

    def __init__(self, lake: Lake, config: FlywheelConfig, keyring: Keyring) -> None:
        self._lake, self._config, self._keyring = lake, config, keyring
        self._flow, self._app = config.flow, app_name(config.flow)
        self._patience = timedelta(hours=config.capture.landing_retention_h)
        self._clean_due, self._cleaned, self._gone = 0.0, 0, frozenset[str]()
        self._forget()

    def run_once(self) -> IngestReport:
        """One micro-batch.

        Raises:
            LakeError: the lake failed; nothing is lost, call again.
        """
        try:
            return self._run_once()
        except BaseException:
            self._forget()
            raise

    def _forget(self) -> None:
        self._last: tuple[Batch, Done] | None = None
        self._known = Known(self._lake, self._flow)
        self._statements, self._statements_version = Statements(), -1
        self._held: dict[tuple[str, int], Row] = {}

    def _run_once(self) -> IngestReport:
        batch, done = self._last or self._resume()
        self._last = (batch, done)
        cleaned = self._clean(batch, done)
        now = utcnow()
        found = batches.discover(self._lake.store, self._flow, batch.cursor, self._config.capture.batch_segments)
        if not found and not any(now - item.since >= self._patience for item in done.waiting):
            return IngestReport(waiting=len(done.waiting), cleaned=cleaned)
        draft = Batch(
            n=batch.n + 1,
            flow=self._flow,
            created=now,
            segments=[segment.key for segment in found],
            cursor=batches.advance(batch.cursor, found, now, self._gone),
        )
        ours = self._lake.store.put_if_absent(batches.batch_key(self._flow, draft.n), draft.model_dump_json().encode())
        todo = draft if ours else batches.read_batch(self._lake.store, self._flow, draft.n)
        ended = self._process(todo, done, fresh=ours)
        self._last = (todo, ended)
        self._compact(todo.n)
        return IngestReport(
            **ended.counts.model_dump(),
            batches=1,
            segments=len(todo.segments),
            waiting=len(ended.waiting),
            cleaned=cleaned,
        )

    def _resume(self) -> tuple[Batch, Done]:
        """The last batch that was begun, brought to its end."""
        store, flow = self._lake.store, self._flow
        n = self._lake.last_committed(TABLES[0], self._app) or 0
        if n == 0:
            return Batch(n=0, flow=flow, segments=[], cursor={}), Done(n=0, flow=flow)
        batch = batches.read_batch(store, flow, n)
        done = batches.read_done(store, flow, n)
        if done is None:
            before = batches.read_done(store, flow, n - 1)
            assert before is not None, "a batch begins after the one before it has ended"
            done = self._process(batch, before, fresh=False)
        return batch, done

    def _process(self, batch: Batch, before: Done, *, fresh: bool) -> Done:
        """Bring a batch to its end. Safe to repeat, and to run at several places at once."""
        arrived, unreadable = self._read(batch.segments)
        events = len(arrived)
        waited = self._waiting(before.waiting)
        arrived += waited
        self._refresh_statements()
        # After the batch was fixed: an erasure that this reading misses finds the batch begun, and waits for its end.
        erased = Erased(read_erasures(self._lake.store), self._keyring)
        outcome = self._sort(batch, arrived, erased, committed=set() if fresh else self._committed(batch.n))
        outcome.refused += unreadable
        outcome.erased += len(before.waiting) - len(waited)
        self._quarantine(batch.n, outcome.refused)
        self._commit(batch, outcome)
        return self._end(batch, before, outcome, arrived, outcome.counts(events))

    def _sort(self, batch: Batch, arrived: Sequence[Arrived], erased: Erased, *, committed: set[str]) -> Outcome:
        """Where each event goes. What another ingester commits of this batch meanwhile is not taken for duplicates."""
        privatiser = Privatiser(self._keyring, self._config.privacy, self._statements)
        while True:
            intake = Intake(
                self._flow, privatiser, self._statements, self._known,
                erased=erased, committed=committed, patience=self._patience, now=batch.created,
            )  # fmt: skip
            outcome = intake.sort(arrived)
            before, committed = committed, self._committed(batch.n)
            if committed == before:
                return outcome

    def _committed(self, n: int) -> set[str]:
        return {table for table in TABLES if (self._lake.last_committed(table, self._app) or 0) >= n}

    def _read(self, keys: Sequence[str]) -> tuple[list[Arrived], list[Refusal]]:
        arrived: list[Arrived] = []
        unreadable: list[Refusal] = []
        for key in keys:
            data = self._lake.store.get(key)
            try:
                arrived += [Arrived(key, row) for row in decode(data, key)]
            except CaptureError as error:
                log.error("%s", error)  # noqa: TRY400 - the message says it all
                unreadable.append(self._put_aside(key, data))
        return arrived, unreadable

    def _put_aside(self, key: str, data: bytes) -> Refusal:
        """Keep the bytes of a segment that is no Parquet file: the only way left to look into it."""
        kept = f"quarantine/{self._flow}/segments/{key.removeprefix('landing/').replace('/', '_')}"
        self._lake.store.put_if_absent(kept, data)
        return Refusal(
            segment=key, seq=0, event_id="", kind="segment", tenant="", reason=UNREADABLE, detail=kept, body=""
        )

    def _waiting(self, waiting: Sequence[Waiting]) -> list[Arrived]:
        """The rows that wait, from memory, else from the segments that are kept for them, unless erased there."""
        for key in {item.segment for item in waiting if (item.segment, item.seq) not in self._held}:
            self._held |= {(key, event.row.seq): event.row for event in self._read([key])[0]}
        rows = ((item, self._held.get((item.segment, item.seq))) for item in waiting)
        return [Arrived(item.segment, row, item.since) for item, row in rows if row is not None]

    def _refresh_statements(self) -> None:
        version = self._lake.version("consents")
        if version is not None and version != self._statements_version:
            self._statements, self._statements_version = read_statements(self._lake), version

    def _quarantine(self, n: int, refused: Sequence[Refusal]) -> None:
        if refused:
            lines = "".join(f"{refusal.model_dump_json()}\n" for refusal in refused)
            self._lake.store.put_if_absent(batches.quarantine_key(self._flow, n), lines.encode())

    def _commit(self, batch: Batch, outcome: Outcome) -> None:
        for table in TABLES:
            rows = outcome.rows(table)
            data = to_arrow(table, rows)
            if self._lake.append(table, data, app=self._app, version=batch.n):
                self._known.add(table, data)
                self._statements_version += table == "consents"  # our own commit brought nothing that we do not know
            else:
                self._known.forget(table)
                # Whoever committed may not have known an answer that we know, and then let its reactions wait.
                outcome.postpone(table, self._known.present(table, rows), batch.created)

    def _end(self, batch: Batch, before: Done, outcome: Outcome, arrived: Sequence[Arrived], counts: Counts) -> Done:
        done = Done(
            n=batch.n,
            flow=self._flow,
            counts=counts,
            totals=before.totals.plus(counts),
            waiting=outcome.waiting,
            cleaned=max(before.cleaned, self._cleaned),
        )
        key = batches.done_key(self._flow, batch.n)
        if not self._lake.store.put_if_absent(key, done.model_dump_json().encode()):
            done = Done.model_validate_json(self._lake.store.get(key))
        wanted = {(item.segment, item.seq) for item in done.waiting}
        rows = ((event.segment, event.row.seq, event.row) for event in arrived)
        self._held = {(segment, seq): row for segment, seq, row in rows if (segment, seq) in wanted}
        return done

    def _clean(self, batch: Batch, done: Done) -> int:
        """Remove raw segments that are ingested and old, now and then."""
        self._cleaned = max(self._cleaned, done.cleaned)
        hours = self._config.capture.landing_retention_h
        if time.monotonic() < self._clean_due:
            return 0
        self._clean_due = time.monotonic() + min(3600.0, hours * 360)
        result = cleaning.clean(self._lake.store, batch, done, self._cleaned, timedelta(hours=hours))
        self._cleaned, self._gone = result.newest, result.gone
        return result.removed

    def _compact(self, n: int) -> None:
        if n % COMPACT_EVERY == 0:
            for table in TABLES:
                self._lake.compact(table, flow=None if table == "consents" else self._flow)
