"""The lake -> columns for the monitor: answers with what people did and what audit labels say, targets with signals.

Answers are those of live, canary and imported traffic whose people agree to evaluation now. A row belongs to the turn
whose snapshot saw it first. Thumbs, ratings and traces are measured on *answers*, disliked ones too: among candidates,
which are liked or corrected, they hardly vary. All other signals are about *targets* and come from the latest scoring,
which measured the candidates of every period with the same reward models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from flywheel.capture.consent import consented_ids
from flywheel.config import FlywheelConfig
from flywheel.lake.schemas import from_arrow
from flywheel.lake.tables import Lake
from flywheel.quality.candidates import aggregate, explicit_score, opinions
from flywheel.quality.filters import Columns
from flywheel.quality.goodhart.tables import Rows
from flywheel.quality.rows import Candidate, Evidence
from flywheel.quality.score import SignalTable
from flywheel.quality.signals.engagement import engagement
from flywheel.records import TRAFFIC, Consent, Feedback, Label, utcnow
from flywheel.review.settle import opinions as label_opinions
from flywheel.review.settle import says_right
from flywheel.workflow.turns.sweep import tune_rows

ASKED = (
    "inference_id", "subject", "ts", "ingest_ts", "consent", "traffic_kind", "choices", "choice_served", "choosing",
    "list_log_propensity",
)  # fmt: skip
SAID = ("feedback_id", "inference_id", "flow", "ts", "subject", "kind", "value", "text", "choice_index", "source")
ON_ANSWERS = ("explicit", "engagement")
"""Signals that are measured on answers here, and therefore left out among those of targets."""


@dataclass(frozen=True)
class Served:
    """Answers that may be looked at, in columns of one order: id, whose, of which period, the row itself."""

    ids: list[str]
    people: NDArray[np.int64]
    period: NDArray[np.int64]
    rows: list[dict[str, Any]]


def read_served(lake: Lake, config: FlywheelConfig, ends: Sequence[datetime]) -> Served:
    """Answers of all periods. ``ends``: when each turn looked at the tables, oldest first."""
    table = lake.read("inferences", flow=config.flow, columns=ASKED)
    table = table.filter((pc.field("traffic_kind").isin(TRAFFIC)) & pc.field("list_log_propensity").is_null())
    allowed = consented_ids(table, lake.records("consents", Consent, flow=config.flow), "evaluation", utcnow())
    table = table.filter(pc.field("inference_id").isin(pa.array(sorted(allowed), pa.string())))
    rows = table.to_pylist()
    seen = np.array([(row["ingest_ts"] or row["ts"]).timestamp() for row in rows])
    period = np.searchsorted(np.array([end.timestamp() for end in ends]), seen, side="left").astype(np.int64)
    _, people = np.unique(np.array([row["subject"] for row in rows], dtype=object), return_inverse=True)
    return Served([row["inference_id"] for row in rows], people.astype(np.int64), period, rows)


def answer_rows(lake: Lake, config: FlywheelConfig, served: Served, labels: Sequence[Label]) -> Rows:
    """What people said and did about each answer, and whether an audit label calls it right."""
    known = {name: place for place, name in enumerate(served.ids)}
    said = lake.read("feedback", flow=config.flow, columns=SAID)
    said = said.filter(pc.field("inference_id").isin(pa.array(served.ids, pa.string())))
    columns = {name: np.full(len(served.ids), np.nan) for name in ON_ANSWERS}
    evidence: dict[int, Evidence] = {}
    for name, events in opinions(from_arrow(said, Feedback)).items():
        place = known[name]
        evidence[place] = aggregate(event for event in events if _about_served(event, served.rows[place]))
    usual = _usual_dwell(evidence, served)
    for place, one in evidence.items():
        chars = len(_answer(served.rows[place]))
        columns["explicit"][place] = _number(explicit_score(one))
        columns["engagement"][place] = _number(engagement(one, chars, usual))
    truth = np.full(len(served.ids), np.nan)
    for name, right in answer_truths(labels).items():
        if name in known:
            truth[known[name]] = float(right)
    return Rows(served.people, served.period, truth, columns)


def answer_truths(labels: Sequence[Label]) -> dict[str, bool]:
    """Whether a served answer is right, by `audit` labels of the random sample; disputed ones say nothing."""
    said = label_opinions(label for label in labels if label.split == "audit" and label.origin == "random")
    truths: dict[str, bool] = {}
    for question in ("rate", "judge"):  # a verdict beats a rating
        for matter, one in said.items():
            right = says_right(one.counts) if one.counts is not None and matter.question == question else None
            if right is not None:
                truths[matter.inference_id] = right
    return truths


def target_rows(candidates: Sequence[Candidate], signals: SignalTable, served: Served, labels: Sequence[Label]) -> Rows:
    """Signals of every candidate's target, and whether an audit label calls the target right."""
    known = {name: place for place, name in enumerate(served.ids)}
    rows = [row for row in candidates if row.inference_id in known]
    places = np.array([known[row.inference_id] for row in rows], dtype=np.intp)
    columns = Columns.of(rows, signals)
    random = [label for label in labels if label.origin == "random"]
    judged = tune_rows(rows, signals, random, split="audit")
    right: Mapping[str, bool] = dict(zip(judged.columns.ids, judged.right.tolist(), strict=True))
    truth = np.array([float(right[name]) if name in right else np.nan for name in columns.ids])
    kept = {name: values for name, values in columns.signals.items() if name not in ON_ANSWERS}
    return Rows(served.people[places], served.period[places], truth, kept)


def _about_served(event: Feedback, row: dict[str, Any]) -> bool:
    """As ``Inference.rated_choice``: of best-of-n the client got one answer, whatever its place in the draw."""
    if event.kind == "correction" or (row["choosing"] is not None and event.choice_index == 0):
        return True
    return event.choice_index == (row["choice_served"] or 0)


def _answer(row: dict[str, Any]) -> str:
    choices, served = row["choices"] or [], row["choice_served"] or 0
    return choices[served] if served < len(choices) else ""


def _usual_dwell(evidence: Mapping[int, Evidence], served: Served) -> float | None:
    """Median dwell a character, in milliseconds."""
    dwells = [
        one.dwell_ms / max(1, len(_answer(served.rows[place])))
        for place, one in evidence.items()
        if one.dwell_ms is not None
    ]
    return float(np.median(dwells)) if dwells else None


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
