"""The first steps of a turn: fix what is looked at, then who judges and who may be learnt from."""

from __future__ import annotations

from typing import TypeVar

from flywheel.capture.service import flush
from flywheel.config import FlywheelConfig
from flywheel.errors import UsageError
from flywheel.evaluation import cases as suites
from flywheel.evaluation.failing import signs_of_failure, split_failures
from flywheel.lake.manifests import read_manifest
from flywheel.lake.tables import Lake
from flywheel.quality.curate import read_examples
from flywheel.quality.rows import TUNE, Exclusions
from flywheel.records import TRAFFIC, EvalCase, Feedback, Inference, Judgement, Label, Record, utcnow
from flywheel.registry.versions import untainted
from flywheel.review.labels import read_labels, read_splits
from flywheel.review.splits import label_split, sides
from flywheel.rollout import routing
from flywheel.rollout.routing import Routing
from flywheel.telemetry import Progress
from flywheel.text.overlap import conversation_texts
from flywheel.workflow.evaluations.casework import current_regression
from flywheel.workflow.evaluations.contamination import overlapping
from flywheel.workflow.evaluations.scorers import check_markable
from flywheel.workflow.turns.context import Context
from flywheel.workflow.turns.sides import decided_sides
from flywheel.workflow.turns.steps import Artifact

TABLES = ("inferences", "feedback", "consents", "labels", "eval_cases", "judgements")
R = TypeVar("R", bound=Record)


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

    def rows(table: str, model: type[R]) -> list[R]:
        version = done["snapshot"]["tables"].get(table)
        return [] if version is None else lake.records(table, model, flow=config.flow, at=version)

    inferences = [row for row in rows("inferences", Inference) if row.traffic_kind in TRAFFIC]
    feedback = context.heard(rows("feedback", Feedback), inferences, "evaluation")
    progress.update(0, None, "splitting failures")
    stored = suites.stored_cases(lake, config.flow)
    failures, halves = split_failures(
        inferences,
        signs_of_failure(inferences, feedback, rows("judgements", Judgement)),
        share=config.quality.failure_eval_share,
        seed=config.seed,
        decided=decided_sides(lake, config.flow, stored, before=context.turn.turn_id),
    )
    allowed = context.consented(inferences, "evaluation")
    by_id = {row.inference_id: row for row in inferences if row.inference_id in allowed}
    labels = read_labels(lake, config.flow)
    made = {
        "random": suites.random_suite(labels, by_id),
        "starter": suites.starter_suite(labels, by_id),
        "failures": suites.failures_suite(feedback, by_id, evaluation_side=halves.evaluation, labels=labels),
    }
    seen = {row.inference_id for row in inferences}  # a case may have been mined from what came later
    active = [case for case in stored if case.status == "active"]
    closed = [case for case in stored if case.status == "retired" and case.settled]  # frozen suites may name them
    proposed = [case for case in stored if case.status == "proposed"]
    current = [
        *(case for suite in made.values() for case in suite),
        *(case for name, suite in made.items() for case in suites.retired(_of_own(active), suite, name)),
        *suites.unusable([*active, *closed], seen - by_id.keys()),
        *suites.unusable(proposed, seen - (by_id.keys() & halves.evaluation)),
    ]
    suites.store_cases(lake, config.flow, list({case.case_id: case for case in current}.values()))
    check_markable(lake, config)  # hours of training later would be late
    made["regression"] = current_regression(lake, config)
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
    known = {case.case_id for case in suites.stored_cases(lake, config.flow)}
    learnt = _learnt(context, [case for case in sample if case.case_id not in known])
    suites.store_cases(lake, config.flow, [*(case for case in sample if case.case_id not in learnt), *gone])


def _learnt(context: Context, cases: list[EvalCase]) -> set[str]:
    """New cases that ask what this turn's model was trained on: people ask alike, and it would know the answer."""
    curated = context.turn.read("07-curate")
    if curated is None or not cases:
        return set()
    manifest = read_manifest(context.lake, "dataset", curated["id"], flow=context.config.flow)
    return {finding.case_id for finding in overlapping(read_examples(context.lake, manifest), cases)}


def exclusions(
    context: Context, inferences: list[Inference], labels: list[Label], evaluation_side: frozenset[str]
) -> Exclusions:
    """What training may not see: subjects kept for labels, failures kept for evaluation, cases and judged answers.

    Subjects are kept from the first turn on, before anybody labels: a model never forgets whom it learnt from, and
    the first labels should not be about people it knows.
    Cases count whatever their status, and with every version they had: a suite that was frozen earlier may name it.
    They exclude what is near to them, and the sessions that they come from.
    """
    config, decided = context.config, read_splits(context.lake, context.config.flow)
    subjects: dict[str, str] = {}
    for subject in sorted({row.subject for row in inferences}):
        chosen = label_split(subject, config.labels, config.seed, decided)
        if chosen is not None:
            subjects[subject] = TUNE if chosen == "tune" else f"label_{chosen}"
    judged = {label.inference_id for label in labels if label.split != "tune"}
    cases = context.lake.records("eval_cases", EvalCase, flow=config.flow)
    texts = {text for case in cases for text in conversation_texts(case.messages)}
    judged_rows = (row for row in inferences if row.inference_id in judged)
    texts |= {text for row in judged_rows for text in conversation_texts(row.messages)}
    decisive = suites.load_cases(context.lake, config.flow, config.decisive_suites())
    sessions = {case.session_id for case in cases if case.session_id is not None}
    neighbours = sorted(row.inference_id for row in inferences if row.session_id in sessions)
    return Exclusions(
        subjects=subjects,
        inference_ids={
            **dict.fromkeys(neighbours, "case_session"),
            **dict.fromkeys(sorted(evaluation_side), "failure_evaluation"),
        },
        texts=sorted(texts),
        decisive=sorted({text for case in decisive for text in conversation_texts(case.messages)}),
    )


def _of_own(cases: list[EvalCase]) -> list[EvalCase]:
    """Cases that turns make; imported ones are never retired here."""
    return [case for case in cases if case.origin != "import"]


def _count_labels(labels: list[Label]) -> dict[str, int]:
    counts: dict[str, int] = dict.fromkeys(("tune", "audit", "gate"), 0)
    for label in labels:
        counts[label.split] += 1
    return counts
