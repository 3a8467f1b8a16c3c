"""The last steps of a turn: evaluate, shadow, gate, promote."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flywheel.evaluation.cases import load_cases
from flywheel.evaluation.compare import Comparison, compare
from flywheel.evaluation.run import EvalRun
from flywheel.evaluation.run import evaluate as evaluate_version
from flywheel.inference import engines
from flywheel.lake.erasures import tainted_lineage
from flywheel.lake.manifests import read_manifest
from flywheel.records import Decision, ShadowPair
from flywheel.review.labels import read_labels
from flywheel.rollout import promotion
from flywheel.rollout.gate import GateInput, GateResult, Lineage, SuiteEvidence, decide
from flywheel.rollout.routing import Variant
from flywheel.rollout.shadow import ShadowSummary, summarise
from flywheel.telemetry import Progress
from flywheel.workflow.cluster import read_up
from flywheel.workflow.contamination import contamination_at_gate
from flywheel.workflow.context import Context
from flywheel.workflow.engines import routed, serving
from flywheel.workflow.judges import calibration_labels, evidence
from flywheel.workflow.scorers import make_scorers
from flywheel.workflow.steps import Artifact

SHADOW_POLL_S = 1.0


def evaluate(context: Context, done: dict[str, Artifact], progress: Progress) -> Artifact:
    """Live model and candidate on the same cases; per suite the paired difference, what was fixed, what broke."""
    config, lake = context.config, context.lake
    live, candidate = _live(done), _candidate(done)
    wanted = [config.evaluation.primary_suite, *config.evaluation.guard_suites, *config.evaluation.report_suites]
    known = {case.suite for case in load_cases(lake, config.flow, wanted)}
    suites = [suite for suite in dict.fromkeys(wanted) if suite in known]
    scorers = make_scorers(lake, config)
    counts = {live.version: 0, candidate.version: 0}
    total = [0]

    def run(variant: Variant) -> EvalRun:
        def advance(count: int, of: int) -> None:
            counts[variant.version], total[0] = count, 2 * of
            progress.update(sum(counts.values()), total[0], "cases")

        engines.wait_ready(variant.version, config.engine.start_timeout_s)
        return evaluate_version(
            lake,
            config,
            version=variant.version,
            suites=suites,
            seed=config.seed,
            scorers=scorers,
            on_progress=advance,
        )

    # The live engine answers while the candidate's starts; then both share the machine.
    with serving(lake, config, live, candidate, wait=False), ThreadPoolExecutor(max_workers=2) as pool:
        before, after = pool.map(run, (live, candidate))
    comparison = compare(before.results, after.results, config.evaluation, seed=config.seed, suites=suites)
    return {
        "live": live.version,
        "candidate": candidate.version,
        "suites": _suite_rows(comparison),
        "slices": {name: suite.as_dict()["slices"] for name, suite in comparison.suites.items()},
        "run_ids": [before.run_id, after.run_id],
    }


def shadow(context: Context, done: dict[str, Artifact], progress: Progress) -> Artifact:
    """Mirror live traffic to a candidate that nothing rejects so far, until there are enough pairs.

    Too few after ``rollout.shadow_wait_s``: the turn stays open, and the next run waits on.
    """
    config = context.config
    policy = config.rollout.gate
    if decide(_gate_input(context, done, shadow=_promising(done)), policy).verdict == "reject":
        return {"skipped": "the gate rejects the candidate already", "summary": None}
    if not policy.require_shadow:
        return {"skipped": "not required by the gate's policy", "summary": None}
    promotion.shadow(context.lake, config, _candidate(done))
    deadline = time.monotonic() + config.rollout.shadow_wait_s
    summary = _summary(context, done)
    while summary.n < policy.min_shadow_pairs and time.monotonic() < deadline:
        progress.update(summary.n, policy.min_shadow_pairs, "pairs from live traffic")
        time.sleep(SHADOW_POLL_S)
        summary = _summary(context, done)
    artifact: Artifact = {"summary": summary.model_dump(mode="json")}
    if summary.n < policy.min_shadow_pairs:
        up = "" if read_up(config) else " The gateway is not running: start it with `flywheel up`."
        artifact["wait"] = (
            f"{summary.n} of {policy.min_shadow_pairs} shadow pairs after {config.rollout.shadow_wait_s:.0f} s; the "
            f"candidate stays in the shadow. Run `flywheel turn` again when there was more traffic.{up}"
        )
    return artifact


def gate(context: Context, done: dict[str, Artifact], _progress: Progress) -> Artifact:
    """The verdict, as a row of ``decisions``."""
    result = _decide(context, done)
    row: Decision = promotion.record_verdict(
        context.lake,
        context.config,
        turn_id=context.turn.turn_id,
        candidate=_candidate(done).version,
        live=_live(done).version,
        verdict=result.verdict,
        reasons=result.reasons,
        text=result.text,
    )
    return {
        "verdict": result.verdict,
        "text": result.text,
        "reasons": [reason.model_dump(mode="json") for reason in result.reasons],
        "decision_id": row.decision_id,
    }


def promote(context: Context, done: dict[str, Artifact], _progress: Progress) -> Artifact:
    """Make a promoted candidate live; take any other out of the shadow and stop its engine."""
    config, lake = context.config, context.lake
    candidate = _candidate(done)
    reason = f"{context.turn.turn_id}: {done['gate']['text']}"
    if done["gate"]["verdict"] != "promote":
        change = promotion.unshadow(lake, config, candidate.version, reason=reason)
        if candidate.version not in routed(lake, config):
            engines.stop(candidate.version)
        return {"live": change.routing.live.version, "routing": change.routing.n, "notes": change.notes}
    if not config.rollout.gate.require_shadow:
        promotion.shadow(lake, config, candidate)  # the one way into live leads through the shadow's place
    change = promotion.promote(lake, config, candidate.version, reason=reason)
    return {"live": change.routing.live.version, "routing": change.routing.n, "notes": change.notes}


def _suite_rows(comparison: Comparison) -> dict[str, Any]:
    return {
        name: {
            "n": suite.n,
            "live": suite.before,
            "candidate": suite.after,
            "difference": suite.gain.mean,
            "interval": [suite.gain.low, suite.gain.high],
            "p_value": suite.p_value,
            "fixed": len(suite.fixed),
            "newly_broken": len(suite.newly_broken),
            "unpaired": suite.unpaired,
        }
        for name, suite in comparison.suites.items()
    }


def _decide(context: Context, done: dict[str, Artifact]) -> GateResult:
    stored = done["shadow"]["summary"]
    summary = ShadowSummary.model_validate(stored) if stored else None
    # Without a summary (rejected before the shadow) its conditions are reported as not measured.
    return decide(_gate_input(context, done, shadow=summary), context.config.rollout.gate)


def _gate_input(context: Context, done: dict[str, Artifact], *, shadow: ShadowSummary | None) -> GateInput:
    evaluation = context.config.evaluation
    return GateInput(
        candidate=_candidate(done).version,
        live=_live(done).version,
        primary=_evidence(done, evaluation.primary_suite),
        guards={name: _evidence(done, name) for name in evaluation.guard_suites},
        required_guards=evaluation.guard_suites,
        shadow=shadow,
        leaks=done["scan"]["leaks"],
        contamination=contamination_at_gate(context.lake, context.config, done["curate"]["id"]),
        erased=tainted_lineage(context.lake, "model", _candidate(done).version),
        lineage=_lineage(context, done),
        judge=evidence(context.lake, context.config, candidate=_candidate(done).version, live=_live(done).version),
    )


def _evidence(done: dict[str, Artifact], suite: str) -> SuiteEvidence | None:
    row = done["evaluate"]["suites"].get(suite)
    if row is None:
        return None
    low, high = row["interval"]
    return SuiteEvidence(
        suite=suite,
        n=row["n"],
        before=row["live"],
        after=row["candidate"],
        gain=row["difference"],
        low=low,
        high=high,
    )


def _lineage(context: Context, done: dict[str, Artifact]) -> Lineage:
    """Ids of labels, inferences and cases that judge, against those that each instrument and the training saw."""
    config, lake = context.config, context.lake
    decisive = [config.evaluation.primary_suite, *config.evaluation.guard_suites]
    cases = load_cases(lake, config.flow, decisive)
    judged = {case.case_id for case in cases} | {case.inference_id for case in cases if case.inference_id}
    judged |= {label.label_id for label in read_labels(lake, config.flow, split="gate")}
    dataset = read_manifest(lake, "dataset", done["curate"]["id"], flow=config.flow)
    trained = {inference for row in dataset.data["rows"] for inference in row[1]}
    rewarded: set[str] = set()
    if done["reward"]["folds"]:
        manifest = read_manifest(lake, "reward", done["reward"]["id"], flow=config.flow)
        rewarded = {inference for fold in manifest.data["rows"] for inference in fold}
    searched: set[str] = set()
    if done["sweep"].get("manifest"):
        kind, _, identity = done["sweep"]["manifest"].partition("/")
        searched = set(read_manifest(lake, kind, identity, flow=config.flow).data["label_ids"])
    return Lineage(
        judged_by=frozenset(judged),
        used={
            "training": frozenset(trained),
            "reward": frozenset(rewarded),
            "sweep": frozenset(searched),
            "filter": frozenset(searched),
            "judge": calibration_labels(lake, config),
        },
    )


def _promising(done: dict[str, Artifact]) -> ShadowSummary:
    """A flawless shadow, to ask the gate whether anything else rejects the candidate already."""
    return ShadowSummary(
        candidate=_candidate(done).version,
        n=1_000_000,
        answered=1_000_000,
        errors=0,
        error_rate=0.0,
        agreement=1.0,
        live_latency_ms=1.0,
        candidate_latency_ms=1.0,
        latency_ratio=1.0,
    )


def _summary(context: Context, done: dict[str, Artifact]) -> ShadowSummary:
    pairs = context.lake.records("shadow_pairs", ShadowPair, flow=context.config.flow)
    return summarise(pairs, candidate=_candidate(done).version)


def _live(done: dict[str, Artifact]) -> Variant:
    return Variant.model_validate(done["snapshot"]["live"])


def _candidate(done: dict[str, Artifact]) -> Variant:
    return Variant(version=done["register"]["version"], folder=done["register"]["folder"])
