"""Consent decides at the time of use: what a person says later also rules what was stored before.

For one row and one purpose:

1. The person's latest statement, if made at or after the row, decides alone (granted and not expired).
2. Otherwise the consent stated with the row's own request counts.
3. Otherwise an earlier standing grant counts, if it has not expired and was not withdrawn.

Without any of these the answer is no.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flywheel.records import Consent, Feedback, Inference, Purpose

if TYPE_CHECKING:
    import pyarrow as pa


def allowed(
    purpose: Purpose, *, row_ts: datetime, row_consent: Iterable[str], statement: Consent | None, now: datetime
) -> bool:
    """Whether a row may be used for a purpose, now.

    Args:
        purpose: what the row is wanted for.
        row_ts: when the request was made.
        row_consent: purposes stated with the request.
        statement: the person's latest statement about this purpose (see ``latest``), if there is one.
        now: time of use; a grant that expires at or before it counts no more.
    """
    if statement is None:
        return purpose in row_consent
    stands = statement.state == "granted" and (statement.expires_at is None or statement.expires_at > now)
    if statement.ts >= row_ts:
        return stands
    return purpose in row_consent or stands


def latest(consents: Iterable[Consent], purpose: Purpose, now: datetime) -> dict[str, Consent]:
    """Each subject's latest statement about a purpose.

    At equal times a withdrawal wins. A grant from the future (a clock that runs ahead) is not looked at
    before its time; a withdrawal from the future counts at once.
    """
    found: dict[str, Consent] = {}
    for statement in consents:
        if statement.purpose != purpose or (statement.state == "granted" and statement.ts > now):
            continue
        held = found.get(statement.subject)
        if held is None or _order(statement) > _order(held):
            found[statement.subject] = statement
    return found


def consented_ids(
    inferences: pa.Table | Sequence[Inference], consents: Iterable[Consent], purpose: Purpose, now: datetime
) -> set[str]:
    """Ids of the inferences that may be used for a purpose, now.

    Args:
        inferences: rows, or a table with the columns inference_id, subject, ts and consent.
        consents: all statements known, in any order, of any subject and purpose.
        purpose: what the rows are wanted for.
        now: time of use.
    """
    statements = latest(consents, purpose, now)
    return {
        inference_id
        for inference_id, subject, ts, stated in _rows(inferences)
        if allowed(purpose, row_ts=ts, row_consent=stated, statement=statements.get(subject), now=now)
    }


def withdrawn(consents: Iterable[Consent], purpose: Purpose, now: datetime) -> set[str]:
    """Subjects whose latest statement about a purpose is a withdrawal."""
    said = latest(consents, purpose, now)
    return {subject for subject, statement in said.items() if statement.state == "withdrawn"}


def heard(
    feedback: Iterable[Feedback],
    inferences: Iterable[Inference],
    consents: Iterable[Consent],
    purpose: Purpose,
    now: datetime,
) -> list[Feedback]:
    """Reactions without those of people who withdrew and now react to what somebody else asked.

    Who reacts to an own answer is heard wherever that answer may be used. A reaction states no consent of its own; so
    who never said anything about the purpose is heard by the consent of the person who asked.
    """
    silent = withdrawn(consents, purpose, now)
    if not silent:
        return list(feedback)
    askers = {row.inference_id: row.subject for row in inferences}
    return [row for row in feedback if row.subject not in silent or askers.get(row.inference_id) == row.subject]


def _order(statement: Consent) -> tuple[datetime, bool]:
    return statement.ts, statement.state == "withdrawn"


def _rows(inferences: pa.Table | Sequence[Inference]) -> Iterator[tuple[str, str, datetime, Any]]:
    if isinstance(inferences, Sequence):
        for row in inferences:
            yield row.inference_id, row.subject, row.ts, row.consent
        return
    names = ("inference_id", "subject", "ts", "consent")
    columns = [inferences.column(name).to_pylist() for name in names]
    for inference_id, subject, ts, stated in zip(*columns, strict=True):
        yield inference_id, subject, ts, stated or ()
