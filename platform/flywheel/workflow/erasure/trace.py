"""Trace one person through the tables: which rows are theirs, are about them, or were made of what they did.

Rows written after the erasure began are new traffic and are not traced. Inferences and feedback are what all else is
traced from, so they are the last tables to be erased: an erasure that was killed finds the rest again.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flywheel.lake.codec import decode_column
from flywheel.lake.schemas import partition_date, uuid7_time
from flywheel.lake.tables import Lake
from flywheel.records import Inference, Message
from flywheel.text.overlap import conversation_texts


@dataclass(frozen=True)
class Trace:
    """Ids of what comes from one person, who is ``subject`` in the tables, up to a moment."""

    subject: str
    until: datetime
    answers: frozenset[str]
    """Their inferences."""
    reacted: frozenset[str]
    """Inferences of others that they reacted to: what was made of these may hold what they said."""
    labels: frozenset[str]
    examples: frozenset[str]
    cases: frozenset[str]
    known_cases: frozenset[str]
    """All that are stored, of anybody."""
    texts: frozenset[str]
    """What they asked, as other artifacts repeat it: of each answer and case what is compared, and the last message."""
    slices: frozenset[str]
    """Groups that only their evaluation cases were reported under."""

    @property
    def made_of(self) -> frozenset[str]:
        """Inferences whose descendants hold something of the person."""
        return self.answers | self.reacted

    @property
    def ids(self) -> frozenset[str]:
        """Everything that a manifest may name."""
        return self.made_of | self.labels | self.examples

    def rows(self) -> dict[str, pc.Expression]:
        """Which rows go, table by table, in the order in which they may go."""
        own = _own(self.subject, self.until)
        about = own | _among("inference_id", self.answers)
        # A result whose case is gone, or was never stored: nothing else tells that it is old.
        orphans = (pc.field("subject") == self.subject) & ~_among("case_id", self.known_cases)
        return {
            "eval_results": orphans | _among("case_id", self.cases),
            "eval_cases": _among("case_id", self.cases),
            "examples": _among("example_id", self.examples),
            "signals": _among("inference_id", self.made_of),
            "labels": about,
            "shadow_pairs": about,
            "judgements": own | _among("item_id", self.answers) | _among("item_id", self.cases),
            "consents": own,
            "feedback": about | _stored(self.subject, self.until),
            "inferences": own | _stored(self.subject, self.until),
        }


def trace(lake: Lake, subject: str, until: datetime, *, answers: frozenset[str] = frozenset()) -> Trace:
    """Follow a person through the lake.

    Args:
        lake: the tables.
        subject: the keyed pseudonym.
        until: when the erasure began.
        answers: ids of their inferences that are known from elsewhere.
    """
    own = _own(subject, until)
    theirs = own | _stored(subject, until)
    answers |= _ids(_read(lake, "inferences", ["inference_id", "subject", "ts", "ingest_ts"], theirs), "inference_id")
    feedback = _read(lake, "feedback", ["inference_id", "subject", "ts", "ingest_ts"], theirs)
    reacted = _ids(feedback, "inference_id") - answers
    about = own | _among("inference_id", answers)
    labels = _read(lake, "labels", ["label_id", "inference_id", "subject", "ts"], about)
    cases = lake.read("eval_cases", columns=["case_id", "inference_id", "subject", "origin", "slice", "messages"])
    doomed = _among("case_id", _cases(cases, subject, until, answers, reacted))
    gone, kept = cases.filter(doomed), cases.filter(~doomed)
    return Trace(
        subject=subject,
        until=until,
        answers=answers,
        reacted=reacted,
        labels=_ids(labels, "label_id"),
        examples=_examples(lake, subject, until, answers | reacted),
        cases=_ids(gone, "case_id"),
        known_cases=_ids(cases, "case_id"),
        texts=_texts(gone) | _texts(_asked(lake, answers)),
        slices=_ids(gone, "slice") - _ids(kept, "slice"),
    )


def _own(subject: str, until: datetime) -> pc.Expression:
    return (pc.field("subject") == subject) & (pc.field("ts") <= _moment(until))


def _stored(subject: str, until: datetime) -> pc.Expression:
    """Stored before, whatever time they state: the clock behind an import may have been ahead."""
    return (pc.field("subject") == subject) & (pc.field("ingest_ts") <= _moment(until))


def _cases(
    cases: pa.Table, subject: str, until: datetime, answers: Collection[str], reacted: Collection[str]
) -> set[str]:
    """Cases made of their answers, and of failures of others that they may have corrected."""

    def goes(row: dict[str, Any]) -> bool:
        source = row["inference_id"]
        corrected = row["origin"] in {"failure", "regression"} and source in reacted
        return source in answers or corrected or (row["subject"] == subject and _before(source, until))

    columns = cases.select(["case_id", "inference_id", "subject", "origin"])
    return {row["case_id"] for row in columns.to_pylist() if goes(row)}


def _examples(lake: Lake, subject: str, until: datetime, made_of: Collection[str]) -> frozenset[str]:
    """Examples made of their answers and reactions; of their own also those whose answers are gone already."""
    rows = lake.read("examples", columns=["example_id", "inference_ids", "subject"]).to_pylist()
    return frozenset(
        row["example_id"]
        for row in rows
        if not set(row["inference_ids"]).isdisjoint(made_of)
        or (row["subject"] == subject and all(_before(source, until) for source in row["inference_ids"]))
    )


def _asked(lake: Lake, answers: Collection[str]) -> pa.Table:
    dates = {partition_date(identity, None) for identity in answers}
    rows = lake.read("inferences", dates=dates, columns=["inference_id", "messages"])
    return rows.filter(_among("inference_id", answers))


def _texts(rows: pa.Table) -> frozenset[str]:
    stored = decode_column(rows["messages"], Inference, "messages")
    said = [[Message.model_validate(one) for one in messages] for messages in stored if messages]
    return frozenset(text for messages in said for text in (messages[-1].content, *conversation_texts(messages)))


def _before(inference_id: str | None, until: datetime) -> bool:
    moment = uuid7_time(inference_id) if inference_id else None
    return moment is None or moment <= until


def _read(lake: Lake, table: str, columns: list[str], where: pc.Expression) -> pa.Table:
    return lake.read(table, columns=columns).filter(where)


def _among(column: str, ids: Collection[str]) -> pc.Expression:
    return pc.field(column).isin(pa.array(sorted(ids), pa.string()))


def _moment(moment: datetime) -> pa.Scalar:
    return pa.scalar(moment, pa.timestamp("us", tz="UTC"))


def _ids(rows: pa.Table, column: str) -> frozenset[str]:
    return frozenset(value for value in rows[column].to_pylist() if value is not None)
