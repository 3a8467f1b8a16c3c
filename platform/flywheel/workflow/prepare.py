"""The first steps of a turn: fix what is looked at, then who judges and who may be learnt from."""

from __future__ import annotations

from typing import Any

from flywheel.capture.service import flush
from flywheel.config import FlywheelConfig
from flywheel.errors import UsageError
from flywheel.evaluation import cases as suites
from flywheel.lake.tables import Lake
from flywheel.quality.rows import TUNE, Exclusions
from flywheel.records import EvalCase, Feedback, Inference, Label, utcnow
from flywheel.registry.versions import untainted
from flywheel.review.labels import read_labels
from flywheel.review.splits import Failure, failure_split, label_split, sides
from flywheel.rollout import routing
from flywheel.rollout.routing import Routing
from flywheel.telemetry import Progress
from flywheel.workflow.context import Context
from flywheel.workflow.steps import Artifact, TurnHandle, turn_ids

TABLES = ("inferences", "feedback", "consents", "labels", "eval_cases")


def check_ready(lake: Lake, config: FlywheelConfig) -> Routing:
    """The routing in force of a flow that a turn can be made of.

    Raises:
        UsageError: no live model, or nothing captured yet.
    """
    truth = routing.current(lake.store, config.flow)
    if truth is None:
        raise UsageError(
            f"The flow '{config.flow}' has no live model yet; start with: flywheel up --model NAME_OR_FOLDER"
        )
    if lake.version("inferences") is None:
        raise UsageError(
            f"Nothing was captured for the flow '{config.flow}' yet; send traffic, or `flywheel import` logs."
        )
    return truth


def snapshot(context: Context, _done: dict[str, Artifact], _progress: Progress) -> Artifact:
    """Fix table versions, the live model and the model to learn from, so that a rerun sees what the first run saw."""
    flush(context.lake, context.config, context.keyring)  # what was acknowledged on this machine so far is in
    truth = check_ready(context.lake, context.config)
    tables = {table: context.lake.version(table) for table in TABLES}
    return {
        "tables": tables,
        "live": truth.live.model_dump(mode="json"),
        "base": untainted(context.lake, truth.live.version),
        "routing": truth.n,
        "at": utcnow().isoformat(),
    }


def split(context: Context, done: dict[str, Artifact], progress: Progress) -> Artifact:
    """Failures 30/70 and labels by subject, before anything reads them; the suites that follow from them."""
    config, lake = context.config, context.lake
    tables = done["snapshot"]["tables"]
    inferences = [
        row
        for row in lake.records("inferences", Inference, flow=config.flow, at=tables["inferences"])
        if row.traffic_kind != "shadow"
    ]
    feedback = (
        []
        if tables["feedback"] is None
        else lake.records("feedback", Feedback, flow=config.flow, at=tables["feedback"])
    )
    progress.update(0, None, "splitting failures")
    failures = find_failures(inferences, feedback)
    halves = failure_split(
        failures, share=config.quality.failure_eval_share, seed=config.seed, decided=_decided_earlier(context)
    )
    allowed = context.consented(inferences, "evaluation")
    by_id = {row.inference_id: row for row in inferences if row.inference_id in allowed}
    labels = read_labels(lake, config.flow)
    made = {
        "random": suites.random_suite(labels, by_id),
        "starter": suites.starter_suite(labels, by_id),
        "failures": suites.failures_suite(feedback, by_id, evaluation_side=halves.evaluation, labels=labels),
    }
    stored = suites.load_cases(lake, config.flow)
    current = [case for suite in made.values() for case in suite]
    gone = [case for name, suite in made.items() for case in suites.retired(_of_own(stored), suite, name)]
    suites.store_cases(lake, config.flow, [*current, *gone])
    excluded = exclusions(context, inferences, labels, halves.evaluation)
    return {
        "failures": len(failures),
        "failure_sides": sides(failures, halves),
        "suites": {name: len(suite) for name, suite in made.items()},
        "labels": _count_labels(labels),
        "excluded": excluded.model_dump(mode="json"),
    }


def grow_random_suite(context: Context) -> None:
    """Add what was labelled since to the random sample; cases whose labels or consent are gone leave it."""
    config, lake = context.config, context.lake
    labels = read_labels(lake, config.flow, split="gate")
    wanted = {label.inference_id for label in labels}
    rows = [row for row in lake.records("inferences", Inference, flow=config.flow) if row.inference_id in wanted]
    allowed = context.consented(rows, "evaluation")
    sample = suites.random_suite(labels, {row.inference_id: row for row in rows if row.inference_id in allowed})
    gone = suites.retired(_of_own(suites.load_cases(lake, config.flow)), sample, "random")
    suites.store_cases(lake, config.flow, [*sample, *gone])


def find_failures(inferences: list[Inference], feedback: list[Feedback]) -> list[Failure]:
    """Answers that somebody disliked, rated 1 or 2, or corrected to something else; grouped by what was answered."""
    rows = {row.inference_id: row for row in inferences}
    found: dict[str, Failure] = {}
    for event in feedback:
        row = rows.get(event.inference_id)
        if row is None or not row.choices or not says_wrong(event, row.choices[row.choice_served]):
            continue
        cluster = suites.slice_of(row, row.choices[row.choice_served]) or "other"
        found[row.inference_id] = Failure(inference_id=row.inference_id, subject=row.subject, cluster=cluster)
    return [found[inference_id] for inference_id in sorted(found)]


def says_wrong(event: Feedback, answer: str) -> bool:
    """Whether somebody said that ``answer`` was wrong: disliked it, rated it 1 or 2, or corrected it to another."""
    if event.kind == "thumbs":
        return (event.value or 0) < 0
    if event.kind == "rating":
        return event.value is not None and event.value <= 2
    return event.kind == "correction" and (event.text or "").strip() != answer.strip()


def exclusions(
    context: Context, inferences: list[Inference], labels: list[Label], evaluation_side: frozenset[str]
) -> Exclusions:
    """What training may not see: labelled subjects, failures kept for evaluation, texts of cases and labels."""
    config = context.config
    subjects: dict[str, str] = {}
    for subject in sorted({row.subject for row in inferences}):
        chosen = label_split(subject, config.labels, config.seed)
        if chosen is not None and labels:
            subjects[subject] = TUNE if chosen == "tune" else f"label_{chosen}"
    judged = {label.inference_id for label in labels if label.split != "tune"}
    texts = {case.messages[-1].content for case in suites.load_cases(context.lake, config.flow) if case.messages}
    texts |= {row.messages[-1].content for row in inferences if row.inference_id in judged and row.messages}
    return Exclusions(
        subjects=subjects,
        inference_ids=dict.fromkeys(sorted(evaluation_side), "failure_evaluation"),
        texts=sorted(texts),
    )


def _decided_earlier(context: Context) -> dict[str, Any]:
    """Sides of subjects in earlier turns: nobody moves from training to evaluation."""
    decided: dict[str, Any] = {}
    for turn_id in turn_ids(context.lake.store, context.config.flow):
        if turn_id < context.turn.turn_id:
            earlier = TurnHandle(context.lake.store, context.config.flow, turn_id).read("02-split")
            decided |= (earlier or {}).get("failure_sides", {})
    return decided


def _of_own(cases: list[EvalCase]) -> list[EvalCase]:
    """Cases that turns make; imported ones are never retired here."""
    return [case for case in cases if case.origin != "import"]


def _count_labels(labels: list[Label]) -> dict[str, int]:
    counts: dict[str, int] = dict.fromkeys(("tune", "audit", "gate"), 0)
    for label in labels:
        counts[label.split] += 1
    return counts
