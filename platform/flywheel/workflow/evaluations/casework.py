"""Cases from what the lake holds: mined, drawn for the regression suite, retired when they tell nothing any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import flywheel
from flywheel.capture.consent import consented_ids, heard
from flywheel.config import FlywheelConfig, config_hash
from flywheel.errors import NotFoundInLakeError, UsageError
from flywheel.evaluation import cases as suites
from flywheel.evaluation import lifecycle, mining, regression, safety
from flywheel.evaluation.failing import signs_of_failure, split_failures
from flywheel.evaluation.frozen import freeze, frozen_suites, is_frozen
from flywheel.evaluation.slices import question, served
from flywheel.lake.tables import Lake
from flywheel.records import TRAFFIC, Consent, EvalCase, EvalResult, Feedback, Inference, Judgement, utcnow
from flywheel.registry.versions import versions
from flywheel.review.labels import read_labels
from flywheel.rollout import routing
from flywheel.telemetry import Progress, Silent
from flywheel.text.hashing import unit_interval
from flywheel.workflow.turns.lease import EVALUATING, only_one
from flywheel.workflow.turns.sides import decided_sides

MADE: Final = (safety.SUITE, regression.SUITE)
"""Suites that Flywheel makes (``add_suite``)."""


@dataclass(frozen=True)
class MiningReport:
    """What ``mine_cases`` looked at and stored."""

    failures: int
    evaluation_side: int
    stored: int
    proposed: int
    dropped: dict[str, int]
    clusters: list[mining.Cluster] = field(default_factory=list[mining.Cluster])


def mine_cases(lake: Lake, config: FlywheelConfig, *, progress: Progress | None = None) -> MiningReport:
    """Turn failures on the evaluation side, of people who consented, into cases; most wait for a person.

    Mining decides sides just as a turn does, and what it decided holds for the turns after it.

    Raises:
        LeaseHeldError: something of this flow is being evaluated, or a person erased.
    """
    with only_one(config, EVALUATING):
        return _mine(lake, config, progress or Silent())


def _mine(lake: Lake, config: FlywheelConfig, progress: Progress) -> MiningReport:
    progress.start("mine", "reading")
    flow = config.flow
    rows = [
        row
        for row in lake.records("inferences", Inference, flow=flow)
        if row.traffic_kind in TRAFFIC and not row.ranking  # a ranked list is no question that a model answers
    ]
    consents, now = lake.records("consents", Consent, flow=flow), utcnow()
    feedback = heard(lake.records("feedback", Feedback, flow=flow), rows, consents, "evaluation", now)
    signs = signs_of_failure(rows, feedback, lake.records("judgements", Judgement, flow=flow))
    stored = suites.stored_cases(lake, flow)
    failures, halves = split_failures(
        rows,
        signs,
        share=config.quality.failure_eval_share,
        seed=config.seed,
        decided=decided_sides(lake, flow, stored),
    )
    allowed = consented_ids(rows, consents, "evaluation", now)
    by_id = {row.inference_id: row for row in rows if row.inference_id in allowed}
    progress.update(0, None, "clustering")
    mined = mining.mine(
        [by_id[key] for key in sorted(halves.evaluation & by_id.keys())],
        signs,
        corrected=suites.failures_suite(
            feedback, by_id, evaluation_side=halves.evaluation, labels=read_labels(lake, flow)
        ),
        stored=stored,
        traffic=_sample(list(by_id.values()), config),
        policy=config.evaluation.mining,
    )
    done = MiningReport(
        failures=len(failures),
        evaluation_side=len(halves.evaluation),
        stored=suites.store_cases(lake, flow, mined.cases),
        proposed=sum(case.status == "proposed" for case in mined.cases),
        dropped={**mined.dropped, **_count("no_consent", len(halves.evaluation - by_id.keys()))},
        clusters=mined.clusters,
    )
    progress.finish(f"{done.failures:,} failures, {done.proposed:,} proposals, {done.stored:,} rows stored")
    return done


def current_regression(lake: Lake, config: FlywheelConfig) -> list[EvalCase]:
    """Store the regression suite as it is now, and retire what left it; its cases."""
    stored = suites.stored_cases(lake, config.flow)
    made = regression.regression_suite(
        stored,
        lake.records("eval_results", EvalResult, flow=config.flow),
        _lived(lake, config.flow),
        policy=config.evaluation.regression,
        seed=config.seed,
    )
    active = [case for case in stored if case.status == "active"]
    suites.store_cases(lake, config.flow, [*made, *suites.retired(active, made, regression.SUITE)])
    return made


def unmade_guards(lake: Lake, config: FlywheelConfig) -> dict[str, str]:
    """Guard suites that cannot have a case yet, and why: ``regression`` before its flow has a history."""
    if regression.SUITE not in config.guard_suites():
        return {}
    why = regression.unmade(
        suites.stored_cases(lake, config.flow),
        lake.records("eval_results", EvalResult, flow=config.flow),
        _lived(lake, config.flow),
        policy=config.evaluation.regression,
    )
    return {} if why is None else {regression.SUITE: why}


def add_suite(lake: Lake, config: FlywheelConfig, name: str) -> int:
    """Store a suite that Flywheel makes, ``safety`` or ``regression``; how many cases it has.

    Raises:
        UsageError: there is no such suite.
    """
    if name not in MADE:
        raise UsageError(f"'{name}' is no suite that comes with Flywheel; add {' or '.join(MADE)}")
    if name == regression.SUITE:
        return len(current_regression(lake, config))
    made = safety.safety_suite(config.flow)
    active = [case for case in suites.load_cases(lake, config.flow, [name]) if case.origin == "safety"]
    suites.store_cases(lake, config.flow, [*made, *suites.retired(active, made, name)])
    return len(made)


def saturated_cases(lake: Lake, config: FlywheelConfig) -> list[EvalCase]:
    """Active cases that the last models all passed (``evaluation.mining.saturated_after``)."""
    evaluation = config.evaluation
    return lifecycle.saturated(
        suites.stored_cases(lake, config.flow),
        lake.records("eval_results", EvalResult, flow=config.flow),
        [item.id for item in versions(lake, config.flow)],
        least=evaluation.mining.saturated_after,
        kept=set(config.decisive_suites()),
    )


def freeze_suite(lake: Lake, config: FlywheelConfig, suite: str) -> str:
    """Fix a suite as it is now; the name that `flywheel evaluate --suite` takes.

    Raises:
        UsageError: it has no active case.
    """
    return freeze(
        lake,
        suites.load_cases(lake, config.flow, [suite]),
        flow=config.flow,
        suite=suite,
        code_version=flywheel.__version__,
        config_hash=config_hash(config),
        seed=config.seed,
    )


def list_suites(lake: Lake, config: FlywheelConfig) -> list[dict[str, Any]]:
    """Every suite, what it is used for, how many cases of each status it has, and its frozen versions."""
    stored, evaluation = suites.stored_cases(lake, config.flow), config.evaluation
    uses = {
        **dict.fromkeys(evaluation.report_suites, "report"),
        **dict.fromkeys(config.guard_suites(), "guard"),
        evaluation.primary_suite: "primary",
    }
    frozen = frozen_suites(lake, config.flow)
    serving = {name: frozen_count(lake, config.flow, name) for name in uses if is_frozen(name)}
    names = sorted({case.suite for case in stored} | {name.partition("@")[0] for name in frozen} | uses.keys())
    return [
        {
            "suite": name,
            "use": uses.get(name),
            **{
                status: sum(case.suite == name and case.status == status for case in stored)
                for status in ("active", "proposed", "retired")
            },
            **({"active": serving[name]} if name in serving else {}),
            "frozen": {full: count for full, count in frozen.items() if full.startswith(f"{name}@")},
        }
        for name in names
    ]


def frozen_count(lake: Lake, flow: str, name: str) -> int:
    """How many cases a frozen suite still serves; 0 where there is no such suite."""
    try:
        return len(suites.load_cases(lake, flow, [name]))
    except NotFoundInLakeError:
        return 0


def show_case(lake: Lake, config: FlywheelConfig, text: str) -> dict[str, Any]:
    """One case with all its versions, and the answer it comes from with what people said of it, if that may be judged.

    Raises:
        UsageError: no case has this id.
    """
    (case,) = lifecycle.choose(suites.stored_cases(lake, config.flow), lifecycle.Choice(ids=[text]))
    rows = lake.records("eval_cases", EvalCase, flow=config.flow)
    history = sorted((row for row in rows if row.case_id == case.case_id), key=lambda row: row.version)
    shown = ("version", "status", "suite", "reviewer")
    return {
        "case": case.model_dump(mode="json"),
        "versions": [{name: getattr(row, name) for name in shown} for row in history],
        "origin": _origin(lake, config, case),
    }


def _origin(lake: Lake, config: FlywheelConfig, case: EvalCase) -> dict[str, Any] | None:
    if case.inference_id is None:
        return None
    rows = [
        row for row in lake.records("inferences", Inference, flow=config.flow) if row.inference_id == case.inference_id
    ]
    consents, now = lake.records("consents", Consent, flow=config.flow), utcnow()
    if not consented_ids(rows, consents, "evaluation", now):
        return None
    reactions = lake.records("feedback", Feedback, flow=config.flow)
    about = [event for event in reactions if event.inference_id == case.inference_id]
    said = [
        {"kind": event.kind, "value": event.value, "text": event.text}
        for event in heard(about, rows, consents, "evaluation", now)
    ]
    return {"model": rows[0].model_version, "answer": served(rows[0]), "feedback": said}


def _sample(rows: Sequence[Inference], config: FlywheelConfig) -> list[str]:
    """Questions of a fixed draw of the traffic."""
    drawn = sorted(rows, key=lambda row: unit_interval("traffic", str(config.seed), row.inference_id))
    return [question(row.messages) for row in drawn[: config.evaluation.mining.traffic_sample]]


def _lived(lake: Lake, flow: str) -> set[str]:
    """Versions that are or were live."""
    now = routing.current(lake.store, flow)
    return {routing.read(lake.store, flow, n).live.version for n in range(1, now.n + 1)} if now else set()


def _count(reason: str, count: int) -> dict[str, int]:
    return {reason: count} if count else {}
