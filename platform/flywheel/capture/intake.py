"""Intake: the events of one batch -> rows for the tables. Everything here is decided, nothing is written.

Every event ends in exactly one place: a row, a duplicate, the quarantine (with a reason), the count of
erased ones, or the list of those that wait. A reaction waits for its inference, because the inference's
session is the key of its surrogates: a correction must name the same stand-in people as the message it corrects.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from pydantic import ValidationError

from flywheel.capture.batches import Counts, Waiting
from flywheel.capture.erased import Erased
from flywheel.capture.events import MODELS, Body
from flywheel.capture.joins import Joined, Joins, Reaction
from flywheel.capture.known import Known, key_of
from flywheel.capture.landing import Row
from flywheel.capture.privatise import Link, Privatiser, link_of
from flywheel.capture.statements import Statements
from flywheel.records import Consent, Feedback, Inference, Record, ShadowPair, in_utc

T = TypeVar("T")

TABLE_OF: Final[dict[str, str]] = {
    "consent": "consents",
    "inference": "inferences",
    "feedback": "feedback",
    "shadow_pair": "shadow_pairs",
}
"""Where events of a kind go. Commits follow this order, so a withdrawal is never behind the rows it covers."""

INVALID: Final = "invalid"
WRONG_FLOW: Final = "wrong_flow"
BAD_ID: Final = "bad_inference_id"
NOT_ANONYMISED: Final = "not_anonymised"
UNREADABLE: Final = "unreadable_segment"

_YEAR_10000_MS: Final = 253_402_300_800_000


class Arrived(NamedTuple):
    """An event with where it was read and, if it has waited, since when."""

    segment: str
    row: Row
    since: datetime | None = None

    def waiting(self, now: datetime) -> Waiting:
        """The pointer that is kept of it while it waits."""
        return Waiting(segment=self.segment, seq=self.row.seq, since=self.since or now)


class Refusal(Record):
    """A row in quarantine. ``body`` holds no personal data; the raw row stays in its segment for a day."""

    segment: str
    seq: int
    event_id: str
    kind: str
    tenant: str
    reason: str
    detail: str
    body: str


class Kept(NamedTuple):
    """An event's row for the tables."""

    event: Arrived
    row: Body
    has_text: bool = True


@dataclass
class Outcome:
    """What came of a batch's events."""

    kept: dict[str, list[Kept]] = field(default_factory=lambda: {table: [] for table in TABLE_OF.values()})
    refused: list[Refusal] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)
    duplicates: int = 0
    erased: int = 0

    def rows(self, table: str) -> list[Body]:
        """What a table gets."""
        return [kept.row for kept in self.kept[table]]

    def postpone(self, table: str, present: Collection[tuple[Any, ...]], now: datetime) -> None:
        """Of the rows for ``table`` only those are in it: the others wait for a batch that brings them there."""
        left_out = [kept.event for kept in self.kept[table] if key_of(table, kept.row) not in present]
        self.kept[table] = [kept for kept in self.kept[table] if key_of(table, kept.row) in present]
        self.waiting += [event.waiting(now) for event in left_out]

    def counts(self, events: int) -> Counts:
        """As numbers; ``events`` is how many were read from the batch's own segments."""
        return Counts(
            events=events,
            rows={table: len(rows) for table, rows in self.kept.items() if rows},
            duplicates=self.duplicates,
            quarantined=dict(Counter(refusal.reason for refusal in self.refused)),
            erased=self.erased,
            text_removed=sum(not kept.has_text for rows in self.kept.values() for kept in rows),
        )


class Intake:
    """Decides about the events of one batch.

    Args:
        flow: rows of other flows are refused.
        privatiser: makes rows storable.
        statements: consents in force; those of the batch are added.
        known: what the tables hold.
        erased: who is stored no more.
        committed: tables that hold this batch already (a rerun after a crash): nothing there is a duplicate.
        patience: how long a reaction waits for its inference.
        now: the time of the batch.
    """

    def __init__(
        self,
        flow: str,
        privatiser: Privatiser,
        statements: Statements,
        known: Known,
        *,
        erased: Erased,
        committed: Collection[str],
        patience: timedelta,
        now: datetime,
    ) -> None:
        self._flow, self._privatiser, self._statements, self._known = flow, privatiser, statements, known
        self._erased, self._committed, self._patience, self._now = erased, committed, patience, now
        self._outcome = Outcome()

    def sort(self, arrived: Iterable[Arrived]) -> Outcome:
        """All events of the batch and all that waited, in the order they were read."""
        parsed: dict[str, list[tuple[Arrived, Body]]] = {kind: [] for kind in TABLE_OF}
        for event in arrived:
            if self._erased.row(event.row):
                self._outcome.erased += 1
                continue
            record = self._parsed(event)
            if record is not None:
                parsed[event.row.kind].append((event, record))
        self._consents(parsed["consent"])
        links = self._inferences(parsed["inference"])
        reactions = [_reaction(record) for _, record in [*parsed["feedback"], *parsed["shadow_pair"]]]
        joins = Joins(self._known, self._privatiser, links, reactions)
        self._reactions("feedback", parsed["feedback"], joins)
        self._reactions("shadow_pairs", parsed["shadow_pair"], joins)
        return self._outcome

    def _parsed(self, event: Arrived) -> Body | None:
        model = MODELS.get(event.row.kind)
        if model is None:
            return self._refuse(event, INVALID, f"kind '{event.row.kind}' is unknown")
        try:
            record = model.model_validate_json(event.row.body)
        except ValidationError as error:
            return self._refuse(event, INVALID, _explain(error))
        problem = _problem(record, self._flow)
        return self._refuse(event, *problem) if problem else record

    def _consents(self, parsed: Sequence[tuple[Arrived, Body]]) -> None:
        rows = [
            (event, self._privatiser.consent(record, event.row.tenant))
            for event, record in parsed
            if isinstance(record, Consent)
        ]
        self._statements.add(row for _, row in rows)
        for event, row in self._new("consents", rows):
            self._keep("consents", event, row)

    def _inferences(self, parsed: Sequence[tuple[Arrived, Body]]) -> dict[str, Link]:
        """Store the inferences; returns the links that reactions in this batch can use at once."""
        links: dict[str, Link] = {}
        for event, record in self._new("inferences", parsed):
            assert isinstance(record, Inference)
            row = self._tried(event, partial(self._privatiser.inference, record, self._now))
            if row is None:
                continue
            links[row.inference_id] = link_of(row)
            self._keep("inferences", event, row, has_text=links[row.inference_id].has_text)
        return links

    def _reactions(self, table: str, parsed: Sequence[tuple[Arrived, Body]], joins: Joins) -> None:
        for event, record in self._new(table, parsed):
            reaction = _reaction(record)
            joined = joins.of(reaction)
            if joined is None:
                self._wait(event, joins.missing(reaction, self._patience))
            elif not isinstance(joined, Joined):
                self._refuse(event, *joined)
            elif self._erased.answer(joined.link.subject, joined.answer):
                self._outcome.erased += 1
            else:
                row = self._tried(event, partial(self._private_reaction, reaction, joined.link))
                if row is not None:
                    self._keep(table, event, row, has_text=joined.link.has_text)

    def _private_reaction(self, reaction: Reaction, link: Link) -> Body:
        if isinstance(reaction, Feedback):
            return self._privatiser.feedback(reaction, link)
        return self._privatiser.shadow_pair(reaction, link)

    def _new(self, table: str, parsed: Sequence[tuple[Arrived, T]]) -> list[tuple[Arrived, T]]:
        """Without those that came twice in the batch or are in the table already."""
        rows: list[Record] = [record for _, record in parsed if isinstance(record, Record)]
        seen = set() if table in self._committed else self._known.present(table, rows)
        fresh = []
        for (event, record), row in zip(parsed, rows, strict=True):
            key = key_of(table, row)
            if key in seen:
                self._outcome.duplicates += 1
            else:
                seen.add(key)
                fresh.append((event, record))
        return fresh

    def _wait(self, event: Arrived, missing: tuple[str, str]) -> None:
        waiting = event.waiting(self._now)
        if self._now - waiting.since >= self._patience:
            self._refuse(event, *missing)
        else:
            self._outcome.waiting.append(waiting)

    def _keep(self, table: str, event: Arrived, row: Body, *, has_text: bool = True) -> None:
        self._outcome.kept[table].append(Kept(event, row, has_text))

    def _tried(self, event: Arrived, make: Callable[[], T]) -> T | None:
        try:
            return make()
        except Exception as error:  # noqa: BLE001 - one text that breaks a detector must not stop all the others
            return self._refuse(event, NOT_ANONYMISED, type(error).__name__)

    def _refuse(self, event: Arrived, reason: str, detail: str) -> None:
        row = event.row
        try:
            body = self._privatiser.refused(row.body, row.tenant, row.event_id)
        except Exception:  # noqa: BLE001 - see _tried; then nothing of the text is kept
            body = ""
        refusal = Refusal(
            segment=event.segment, seq=row.seq, event_id=row.event_id, kind=row.kind, tenant=row.tenant,
            reason=reason, detail=detail, body=body,
        )  # fmt: skip
        self._outcome.refused.append(refusal)


def is_uuid7(text: str) -> bool:
    """Whether an id carries the time that fixes its partition."""
    try:
        parsed = uuid.UUID(text)
    except ValueError:
        return False
    return parsed.version == 7 and (parsed.int >> 80) < _YEAR_10000_MS


def _problem(record: Body, flow: str) -> tuple[str, str] | None:
    """What a row type alone cannot check."""
    for name in ("ts", "expires_at"):
        if problem := _no_moment(getattr(record, name, None)):
            return INVALID, f"{name}: {problem}"
    if isinstance(record, Consent):
        return None
    if record.flow != flow:
        return WRONG_FLOW, "flow: is not the flow of the segment"
    if isinstance(record, Feedback) and record.session_id and not record.inference_id:
        return None
    return None if is_uuid7(record.inference_id) else (BAD_ID, "inference_id: is not a UUIDv7")


def _no_moment(given: datetime | None) -> str | None:
    """Why the tables cannot hold a time: one that cannot be read back would stop whoever reads its table."""
    try:
        if given is not None:
            in_utc(given)
    except ValueError as error:
        return str(error)
    return None


def _reaction(record: Body) -> Reaction:
    assert isinstance(record, Feedback | ShadowPair)
    return record


def _explain(error: ValidationError) -> str:
    """Place and kind of every problem, never the value: it may be personal."""
    items = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, item['loc'])) or 'body'}: {item['type']}" for item in items[:5])
