"""What a flow still lacks before turns can make its model better: a checklist with counts and next commands."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flywheel.capture.consent import consented_ids
from flywheel.config import FlywheelConfig
from flywheel.evaluation.frozen import is_frozen
from flywheel.lake.tables import Lake
from flywheel.records import TRAFFIC, Consent, utcnow
from flywheel.review.labels import latest_per_inference, read_labels
from flywheel.rollout import routing
from flywheel.workflow.cadence.reactions import explicit
from flywheel.workflow.evaluations.casework import MADE, frozen_count, unmade_guards

RATED_GOAL, RATED_IDEAL = 500, 1_000
"""Rated answers that a first turn can learn from, and with which it has a good chance."""


@dataclass(frozen=True)
class Counts:
    """What the lake holds of one flow.

    Attributes:
        live: there is a live model.
        captured: answers, of any source but the shadow.
        consented: those that may be trained on.
        rated: those that somebody rated, liked, disliked or corrected as well.
        starter: labels of the curated set.
        random: labels of the random sample that judge candidates (split ``gate``).
        reviewers: people who labelled.
        cases: active evaluation cases of each suite; of a frozen one those that it still serves.
        unmade: guard suites that cannot have a case yet, and why.
    """

    live: bool = False
    captured: int = 0
    consented: int = 0
    rated: int = 0
    starter: int = 0
    random: int = 0
    reviewers: int = 0
    cases: Mapping[str, int] = field(default_factory=dict)
    unmade: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Item:
    """One line of the checklist. ``next`` is the command, or the habit, that moves it."""

    name: str
    have: int
    need: int
    done: bool
    next: str
    ideal: int | None = None


def readiness(lake: Lake, config: FlywheelConfig) -> dict[str, Any]:
    """``{"ready": bool, "items": [{"name", "have", "need", "done", "next", "ideal"}]}``, counted now."""
    items = checklist(count(lake, config), config)
    return {"ready": all(item.done for item in items), "items": [asdict(item) for item in items]}


def checklist(counts: Counts, config: FlywheelConfig) -> list[Item]:
    """The items that this configuration asks for, in the order in which they are best worked on. Pure."""
    gate = config.rollout.gate
    # Candidates are judged by a share of the people only, so that many answers must be there to draw from.
    sample = max(RATED_GOAL, math.ceil(gate.min_primary_cases / config.labels.gate_share))
    start = "flywheel up" if config.first_model else "flywheel up --model NAME_OR_FOLDER"

    def item(name: str, have: int, need: int, next_: str, ideal: int | None = None) -> Item:
        return Item(name, have, need, have >= need, next_, ideal)

    label = "flywheel label --annotator YOU"
    rate = "POST /v1/feedback: a thumb is enough, a correction teaches more"
    consent = "ask people, and send the header x-flywheel-consent: training,evaluation"
    return [
        item("a live model", int(counts.live), 1, start),
        item("answers captured", counts.captured, sample, "send traffic, or flywheel import FILE.jsonl"),
        item("with consent to train", counts.consented, RATED_GOAL, consent),
        item("rated or corrected", counts.rated, RATED_GOAL, rate, RATED_IDEAL),
        item("a reviewer", counts.reviewers, 1, label),
        item("starter labels", counts.starter, config.labels.starter_set, f"{label} --curated"),
        item("random-sample labels that judge", counts.random, gate.min_primary_cases, label),
        *(
            item(f"cases of suite {suite}", counts.cases.get(suite, 0), gate.guard(suite).min_cases, _cases(suite))
            for suite in config.guard_suites()
            if suite not in counts.unmade
        ),
        *(Item(f"cases of suite {suite}", 0, 0, True, f"nothing yet: {why}") for suite, why in counts.unmade.items()),
    ]


def count(lake: Lake, config: FlywheelConfig) -> Counts:
    """Read the few columns that the checklist needs."""
    flow = config.flow
    columns = ["inference_id", "subject", "ts", "consent", "traffic_kind"]
    answers = lake.read("inferences", flow=flow, columns=columns).filter(pc.field("traffic_kind").isin(TRAFFIC))
    consented = consented_ids(answers, lake.records("consents", Consent, flow=flow), "training", utcnow())
    said = explicit(lake.read("feedback", flow=flow, columns=["inference_id", "kind", "source"]))
    labels = read_labels(lake, flow)
    # An answer that was only rejected, or is disputed, makes no case.
    judging = {key for key, label in latest_per_inference(labels).items() if label.kind != "reject"}
    return Counts(
        live=routing.current(lake.store, flow) is not None,
        captured=answers.num_rows,
        consented=len(consented),
        rated=len(consented.intersection(said["inference_id"].unique().to_pylist())),
        starter=len({label.inference_id for label in labels if label.origin == "curated"}),
        random=len(judging & {row.inference_id for row in labels if row.origin == "random" and row.split == "gate"}),
        reviewers=len({label.annotator for label in labels}),
        cases={
            **_active_cases(lake.read("eval_cases", flow=flow, columns=["case_id", "version", "suite", "status"])),
            **{suite: frozen_count(lake, flow, suite) for suite in filter(is_frozen, config.guard_suites())},
        },
        unmade=unmade_guards(lake, config),
    )


def _active_cases(table: pa.Table) -> dict[str, int]:
    """Cases by suite whose latest version is active."""
    latest = {row["case_id"]: row for row in sorted(table.to_pylist(), key=lambda row: row["version"])}
    suites = [row["suite"] for row in latest.values() if row["status"] == "active"]
    return {suite: suites.count(suite) for suite in set(suites)}


def _cases(suite: str) -> str:
    if is_frozen(suite):
        return f"flywheel cases freeze {suite.partition('@')[0]}, and name what it prints in evaluation.guard_suites"
    if suite in MADE:
        return f"flywheel cases add {suite}"
    return f'flywheel cases import FILE.jsonl, each line with "suite": "{suite}"'
