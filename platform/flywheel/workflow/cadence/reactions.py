"""Answers that people said something about in so many words, read with few columns."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flywheel.capture.consent import consented_ids
from flywheel.evaluation.failing import says_wrong
from flywheel.lake.schemas import from_arrow
from flywheel.lake.tables import Lake
from flywheel.quality.candidates import LATEST_COUNTS, aggregate, explicit_score, opinions
from flywheel.records import TRAFFIC, Consent, Feedback

SAID = ("feedback_id", "inference_id", "flow", "ts", "ingest_ts", "subject", "kind", "value", "text", "source")
ASKED = (
    "inference_id",
    "subject",
    "ts",
    "date",
    "consent",
    "traffic_kind",
    "model_version",
    "choices",
    "choice_served",
    "list_log_propensity",
)
BY_PEOPLE = ["explicit", "human"]


@dataclass(frozen=True)
class Judged:
    """One answer, what was said about it, and what it may be used for.

    Attributes:
        inference_id: which answer.
        subject: who had asked.
        ts: when.
        date: partition of the inference.
        served_by: the model that answered live traffic; None for imported and other rows.
        seen: when the lake learnt of the first opinion.
        failed: somebody disliked it or corrected it to something else.
        good: somebody corrected or liked it, and it may be trained on; hold-outs and filters come later.
        may_judge: it may be evaluated.
    """

    inference_id: str
    subject: str
    ts: datetime
    date: str
    served_by: str | None
    seen: datetime
    failed: bool
    good: bool
    may_judge: bool


def read_judged(lake: Lake, flow: str, now: datetime) -> list[Judged]:
    """Every answer of a flow with an explicit opinion, in the order the lake learnt of them."""
    said = explicit(lake.read("feedback", flow=flow, columns=SAID))
    asked = _of(lake.read("inferences", flow=flow, columns=ASKED), said["inference_id"].unique())
    # Of a ranked list nobody can say that an answer of the model was right or wrong.
    asked = asked.filter((pc.field("traffic_kind").isin(TRAFFIC)) & pc.field("list_log_propensity").is_null())
    consents = lake.records("consents", Consent, flow=flow)
    train, judge = (consented_ids(asked, consents, purpose, now) for purpose in ("training", "evaluation"))
    seen, events = _first_seen(said), opinions(from_arrow(said, Feedback))
    rows = [
        _judged(row, events[row["inference_id"]], seen[row["inference_id"]], train, judge) for row in asked.to_pylist()
    ]
    return sorted(rows, key=lambda row: (row.seen, row.inference_id))


def explicit(feedback: pa.Table) -> pa.Table:
    """Those reactions (columns kind, source) in which a person states an opinion."""
    by_people = pc.field("source").isin(BY_PEOPLE) | pc.field("source").is_null()
    return feedback.filter(by_people & pc.field("kind").isin(sorted(LATEST_COUNTS)))


def read_questions(lake: Lake, flow: str, rows: Sequence[Judged]) -> list[str]:
    """What was asked: the last message of each row's user, in the order of ``rows``; "" where it is gone."""
    dates = {row.date for row in rows}
    table = lake.read("inferences", flow=flow, dates=dates, columns=["inference_id", "messages"])
    found = _of(table, pa.array([row.inference_id for row in rows], pa.string())).to_pylist()
    texts = {row["inference_id"]: _last_of_user(row["messages"]) for row in found}
    return [texts.get(row.inference_id, "") for row in rows]


def _judged(
    row: dict[str, Any], events: list[Feedback], seen: datetime, train: Collection[str], judge: Collection[str]
) -> Judged:
    choices, served = row["choices"] or [], row["choice_served"] or 0
    answer = choices[served] if served < len(choices) else ""
    corrected = any(event.kind == "correction" and (event.text or "").strip() for event in events)
    liked = (explicit_score(aggregate(events)) or 0) > 0
    return Judged(
        inference_id=row["inference_id"],
        subject=row["subject"],
        ts=row["ts"],
        date=row["date"],
        served_by=row["model_version"] if row["traffic_kind"] in {"live", "canary"} else None,
        seen=seen,
        failed=any(says_wrong(event, answer) for event in events),
        good=(corrected or liked) and row["inference_id"] in train,
        may_judge=row["inference_id"] in judge,
    )


def _of(table: pa.Table, ids: pa.Array | pa.ChunkedArray) -> pa.Table:
    return table.filter(pc.field("inference_id").isin(ids))


def _first_seen(said: pa.Table) -> dict[str, datetime]:
    first: dict[str, datetime] = {}
    for key, learnt, ts in zip(*(said[name].to_pylist() for name in ("inference_id", "ingest_ts", "ts")), strict=True):
        first[key] = min(learnt or ts, first.get(key, learnt or ts))
    return first


def _last_of_user(messages: list[dict[str, str]] | None) -> str:
    return next((message["content"] for message in reversed(messages or []) if message["role"] == "user"), "")
