"""The last steps of a turn: evaluate, shadow, gate, promote."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from flywheel.config import FilterConfig, FlywheelConfig
from flywheel.errors import NotFoundInLakeError, UsageError
from flywheel.evaluation.behaviour import BehaviourChange, behaviour
from flywheel.evaluation.cases import load_cases
from flywheel.evaluation.checks import Scorers
from flywheel.evaluation.compare import Comparison, compare
from flywheel.evaluation.run import EvalRun
from flywheel.evaluation.run import evaluate as evaluate_version
from flywheel.inference import engines
from flywheel.lake.erasures import tainted_lineage
from flywheel.records import Decision, ShadowPair
from flywheel.rollout import canary_steps, history, promotion, routing
from flywheel.rollout.gate import BY_PEOPLE, Agreement, GateInput, Outcome, SuiteEvidence, decide
from flywheel.rollout.machine import take
from flywheel.rollout.routing import Variant
from flywheel.rollout.shadow import ShadowSummary, summarise
from flywheel.telemetry import Progress
from flywheel.workflow.cluster import read_up
from flywheel.workflow.evaluations import judge_runs
from flywheel.workflow.evaluations.casework import unmade_guards
from flywheel.workflow.evaluations.contamination import contamination_at_gate
from flywheel.workflow.evaluations.scorers import scoring
from flywheel.workflow.turns import learn, quality
from flywheel.workflow.turns.audit import audit_agreement
from flywheel.workflow.turns.context import Context
from flywheel.workflow.turns.engines import routed, serving
from flywheel.workflow.turns.looks import cases_id, latest_look
from flywheel.workflow.turns.provenance import lineage_rows, trace_lineage
from flywheel.workflow.turns.steps import Artifact

SHADOW_POLL_S = 1.0


def evaluate(context: Context, done: dict[str, Artifact], progress: Progress) -> Artifact:
    """Live model and candidate on the same cases; per suite the paired difference, what was fixed, what broke."""
    config, lake = context.config, context.lake
    live, candidate = _live(done), _candidate(done)
    wanted = [*config.decisive_suites(), *config.evaluation.report_suites]
    cases = load_cases(lake, config.flow, wanted)
    known = {case.suite for case in cases}
    suites = [suite for suite in dict.fromkeys(wanted) if suite in known]
    counts = {live.version: 0, candidate.version: 0}
    total = [0]

    def run(variant: Variant, scorers: Scorers) -> EvalRun:
        def advance(count: int, of: int) -> None:
            counts[variant.version], total[0] = count, 2 * of
            progress.update(sum(counts.values()), total[0], "cases")

        def ask() -> EvalRun:
            return evaluate_version(
                lake,
                config,
                version=variant.version,
                suites=suites,
                seed=config.seed,
                scorers=scorers,
                on_progress=advance,
            )

        engines.wait_ready(variant.version, config.engine.start_timeout_s)
        found = ask()
        return ask() if found.unanswered else found  # what a machine failed to answer is asked once more

    # The live engine answers while the candidate's starts; then both share the machine.
    with (
        scoring(lake, config, [case.check for case in cases], at_once=True) as scorers,
        serving(lake, config, live, candidate, wait=False),
        ThreadPoolExecutor(max_workers=2) as pool,
    ):
        before, after = pool.map(run, (live, candidate), (scorers, scorers))
    comparison = compare(before.results, after.results, config.evaluation, seed=config.seed, suites=suites)
    return {
        "live": live.version,
        "candidate": candidate.version,
        "suites": _suite_rows(comparison),
        "slices": {name: suite.as_dict()["slices"] for name, suite in comparison.suites.items()},
        "changed": {
            name: {"newly_broken": suite.newly_broken, "fixed": suite.fixed}
            for name, suite in comparison.suites.items()
        },
        "behaviour": {name: asdict(change) for name, change in _behaviour(before, after, config).items()},
        "run_ids": [before.run_id, after.run_id],
        "cases": cases_id(
            # of those that decide: what is only reported may grow without being a second look
            (row.case_id, row.case_version)
            for row in before.results
            if row.suite in config.decisive_suites()
        ),
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
    found = quality.awaited(context, live=_live(done).version, candidate=_candidate(done).version, until=deadline)
    artifact: Artifact = {
        "summary": summary.model_dump(mode="json"),
        **({"live_quality": found.model_dump(mode="json")} if found else {}),
    }
    if found and found.state == "undecided":
        artifact["wait"] = quality.waiting(found)
    if summary.n < policy.min_shadow_pairs:
        up = "" if read_up(config) else " The gateway is not running: start it with `flywheel up`."
        artifact["wait"] = (
            f"{summary.n} of {policy.min_shadow_pairs} shadow pairs after {config.rollout.shadow_wait_s:.0f} s; the "
            f"candidate stays in the shadow. Run `flywheel turn` again when there was more traffic.{up}"
        )
    return artifact


def gate(context: Context, done: dict[str, Artifact], progress: Progress) -> Artifact:
    """The verdict, as a row of ``decisions``.

    A turn stays open that only lacks a person's approval, or more cases where one may look again.
    """
    done = {**done, "evaluate": latest_look(context, done["evaluate"], lambda: evaluate(context, done, progress))}
    stored = done["shadow"]["summary"]
    # Without a summary (rejected before the shadow) its conditions are reported as not measured.
    given = _gate_input(context, done, shadow=ShadowSummary.model_validate(stored) if stored else None)
    given = given.model_copy(update={"live_quality": quality.stored(done["shadow"])})
    result = decide(given, context.config.rollout.gate)
    row: Decision = promotion.record_verdict(
        context.lake,
        context.config,
        turn_id=context.turn.turn_id,
        candidate=_candidate(done).version,
        live=_live(done).version,
        verdict=result.verdict,
        reasons=result.reasons,
        text=result.text,
        evidence=evidence(done),
    )
    artifact: Artifact = {
        "verdict": result.verdict,
        "text": result.text,
        "reasons": [reason.model_dump(mode="json") for reason in result.reasons],
        "decision_id": row.decision_id,
        "lineage": lineage_rows(given.lineage),
    }
    waiting = [reason for reason in result.reasons if reason.outcome == Outcome.WAIT.value]
    if result.verdict == "continue" and (given.sequential or {reason.name for reason in waiting} <= BY_PEOPLE):
        artifact["wait"] = f"{waiting[0].text} Then run `flywheel turn` again."
    return artifact


def promote(context: Context, done: dict[str, Artifact], _progress: Progress) -> Artifact:
    """Make a promoted candidate live; take any other out of the shadow and stop its engine."""
    candidate = _candidate(done)
    reason = f"{context.turn.turn_id}: {done['gate']['text']}"
    if done["gate"]["verdict"] != "promote":
        return _taken_out(context, candidate, reason)
    if context.config.rollout.canary_steps:
        return _handed_over(context, candidate, reason)
    try:
        return _live_at_once(context, candidate, reason)
    except UsageError as error:
        return _taken_out(context, candidate, f"{context.turn.turn_id}: {error}", str(error))


def _live_at_once(context: Context, candidate: Variant, reason: str) -> Artifact:
    """Live for everybody, if the gate's word still holds: a turn may be run again days after it was given.

    Raises:
        UsageError: another model is live than the one that was beaten, the candidate was taken back, or it learnt
            from a person who was erased since.
    """
    config, lake = context.config, context.lake

    def allowed(state: routing.Routing) -> None:
        canary_steps.permission(lake, config, state, candidate.version, override=False)

    promotion.project(lake, config)  # what was decided must be in the ledger before it is read
    now = promotion.needed(routing.current(lake.store, config.flow), config.flow)
    if now.live.version != candidate.version and not config.rollout.gate.require_shadow:
        allowed(now)
        promotion.shadow(lake, config, candidate)  # the one way into live leads through the shadow's place
    change = promotion.promote(lake, config, candidate.version, reason=reason, allowed=allowed)
    return {"live": change.routing.live.version, "routing": change.routing.n, "notes": change.notes}


def _taken_out(context: Context, candidate: Variant, reason: str, *notes: str) -> Artifact:
    config, lake = context.config, context.lake
    canary_steps.stop(lake, config, candidate.version, reason=reason)
    change = promotion.unshadow(lake, config, candidate.version, reason=reason)
    if candidate.version not in routed(lake, config):
        engines.stop(candidate.version)
    return {"live": change.routing.live.version, "routing": change.routing.n, "notes": [*notes, *change.notes]}


def _handed_over(context: Context, candidate: Variant, reason: str) -> Artifact:
    """From here on the rollout's controller moves it, step by step; where it took it back already, that is said."""
    config, lake = context.config, context.lake
    try:
        change = take.begin(lake, config, candidate, reason=reason)
    except UsageError as error:
        now = promotion.needed(routing.current(lake.store, config.flow), config.flow)
        return {"live": now.live.version, "routing": now.n, "notes": [str(error)]}
    steps = ", ".join(f"{100 * share:.6g} %" for share in config.rollout.canary_steps)
    note = f"{candidate.version} goes live in steps ({steps} of the users); see `flywheel rollout status`"
    return {"live": change.routing.live.version, "routing": change.routing.n, "notes": [note, *change.notes]}


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
            "failed": suite.failed,
        }
        for name, suite in comparison.suites.items()
    }


def evidence(done: dict[str, Artifact]) -> list[str]:
    """What a verdict rests on: the evaluation runs of both models, and the set of cases."""
    return [*done["evaluate"]["run_ids"], done["evaluate"]["cases"]]


def _gate_input(context: Context, done: dict[str, Artifact], *, shadow: ShadowSummary | None) -> GateInput:
    config, lake = context.config, context.lake
    evaluation, candidate, live = config.evaluation, _candidate(done).version, _live(done).version
    before, seen = history.decisions(lake, config.flow), evidence(done)
    approved = history.approval(before, candidate=candidate, evidence=seen)
    return GateInput(
        candidate=candidate,
        live=live,
        primary=_evidence(done, evaluation.primary_suite),
        guards={name: _evidence(done, name) for name in config.guard_suites()},
        required_guards=config.guard_suites(),
        unmade_guards=unmade_guards(lake, config),
        sequential=evaluation.interval == "sequence",
        earlier_looks=history.earlier_looks(before, candidate=candidate, live=live, evidence=seen),
        behaviour=done["evaluate"]["behaviour"],
        shadow=shadow,
        leaks=done["scan"]["leaks"],
        contamination=contamination_at_gate(lake, config, done["curate"]["id"], done["evaluate"]["run_ids"][1]),
        erased=tainted_lineage(lake, "model", candidate),
        audit=_audit(context, done),
        lineage=trace_lineage(lake, config, candidate),
        judge=judge_runs.evidence(lake, config, candidate=candidate, live=live),
        approved_by=approved.actor if approved else None,
    )


def _audit(context: Context, done: dict[str, Artifact]) -> Agreement | None:
    """Only where the policy asks: it reads every candidate row again."""
    config = context.config
    if config.rollout.gate.min_audit_agreement is None:
        return None
    used = FilterConfig.model_validate(done["sweep"]["filter"])
    try:
        return audit_agreement(context.lake, config, learn.built(done), learn.scored(done), used)
    except NotFoundInLakeError:  # signals of this version were erased with a person: not measured
        return None


def _behaviour(before: EvalRun, after: EvalRun, config: FlywheelConfig) -> dict[str, BehaviourChange]:
    """On the primary suite alone: on others, such as safety, refusing may be right."""
    live, candidate = (
        [row for row in run.results if row.suite == config.evaluation.primary_suite] for run in (before, after)
    )
    return behaviour(live, candidate, config.evaluation, seed=config.seed)


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
        unpaired=row["unpaired"],
        failed=row["failed"],
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
    made, base, live = done["register"], done["snapshot"]["base"], _live(done)
    adapter = made.get("adapter") if base == live.version else None  # it fits the weights that it was trained on only
    return Variant(version=made["version"], folder=made["folder"], base=base if adapter else None, adapter=adapter)
