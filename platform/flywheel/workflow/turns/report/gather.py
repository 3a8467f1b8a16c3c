"""Read from the lake what a report says about one turn's verdict."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import pyarrow.compute as pc
from pydantic import ValidationError

from flywheel.config import FlywheelConfig
from flywheel.errors import NotFoundInLakeError, UsageError
from flywheel.evaluation.cases import load_cases
from flywheel.lake.manifests import Manifest, lineage
from flywheel.lake.schemas import from_arrow
from flywheel.lake.tables import Lake
from flywheel.records import Decision, EvalCase, EvalResult
from flywheel.rollout import history
from flywheel.rollout.machine.story import Moment, story
from flywheel.workflow.sweeps.result import SweepResult
from flywheel.workflow.turns.goodhart.stored import look_of
from flywheel.workflow.turns.looks import read_look
from flywheel.workflow.turns.provenance import lineage_rows, trace_lineage
from flywheel.workflow.turns.report import words
from flywheel.workflow.turns.report.model import Ancestor, Changed, GateReport, Overlap, SliceRow, SuiteRow
from flywheel.workflow.turns.steps import Artifact, TurnHandle

MOST_REGRESSIONS = 12
MOST_FIXES = 6
STAGES = ("captured", "consented", "unique", "kept")


def gather(lake: Lake, config: FlywheelConfig, turn: TurnHandle, done: Mapping[str, Artifact]) -> GateReport:
    """Everything about the turn's latest verdict. Cases that are retired by now are counted and not shown.

    Args:
        lake: the lake.
        config: the flow.
        turn: whose verdict.
        done: artifacts of the turn's steps, by name.

    Raises:
        UsageError: the turn has no verdict.
    """
    rows = history.decisions(lake, config.flow)
    decided = [row for row in rows if row.action == "gate" and row.turn_id == turn.turn_id]
    if not decided:
        raise UsageError(f"{turn.turn_id} has no verdict, so there is nothing to report.")
    verdict = decided[-1]
    begun = turn.read("turn") or {}
    evaluated = read_look(turn, verdict.evidence) or done.get("evaluate", {})
    made_with = _made_with(begun, config)
    suites = _suites(evaluated, verdict, made_with)
    changed = _Changed(lake, config, evaluated, [row.suite for row in suites])
    approved = history.approval(rows, candidate=verdict.candidate or "", evidence=verdict.evidence)
    funnel = done.get("curate", {}).get("funnel", {})
    told = _lineage(lake, config, verdict, done)
    manifests = _walk(lake, verdict.candidate or "")
    return GateReport(
        flow=config.flow,
        turn_id=turn.turn_id,
        candidate=verdict.candidate or "",
        live=verdict.live or "",
        verdict=verdict.verdict or "inconclusive",
        headline=words.HEADLINES[verdict.verdict or "inconclusive"],
        sentence=words.sentence(verdict.verdict or "inconclusive", verdict.candidate or "", verdict.reasons, suites),
        text=verdict.text,
        conditions=verdict.reasons,
        suites=suites,
        confidence=made_with.evaluation.confidence,
        slices=_slices(evaluated, suites),
        regressions=changed.rows("newly_broken", MOST_REGRESSIONS),
        regressions_total=sum(row.newly_broken for row in suites),
        fixes=changed.rows("fixed", MOST_FIXES),
        fixes_total=sum(row.fixed for row in suites),
        funnel={stage: funnel.get(stage, 0) for stage in STAGES} if funnel else {},
        dropped=dict(sorted(funnel.get("dropped", {}).items(), key=lambda item: -item[1])),
        overlap=[
            Overlap(maker=maker, ids=ids, sources=told.get("sources", {}).get(maker, []))
            for maker, ids in told.get("overlap", {}).items()
        ],
        judged_by=told.get("judged_by"),
        made_by=told.get("used", {}),
        ancestors=[
            Ancestor(ref=item.ref, parents=item.parents, created=item.created, note=_note(item)) for item in manifests
        ],
        evidence=verdict.evidence,
        approved_by=approved.actor if approved else None,
        started=datetime.fromisoformat(begun["started"]) if "started" in begun else verdict.ts,
        decided=verdict.ts,
        code_version=manifests[0].code_version if manifests else "",
        config_hash=begun.get("config_hash", ""),
        seed=made_with.seed,
        interval=made_with.evaluation.interval,
        goodhart=look_of(lake.store, config.flow, turn.turn_id),
        sweep=_swept(done.get("sweep", {})),
        rollout=_rolled_out(lake, config, verdict.candidate or ""),
    )


def _rolled_out(lake: Lake, config: FlywheelConfig, candidate: str) -> list[Moment]:
    """What became of the candidate after the verdict, where it met users in steps."""
    told = story(lake, config.flow, about=candidate)
    return told if any(len(moment.shares) > 1 for moment in told) else []


def _swept(artifact: Artifact) -> SweepResult | None:
    """The turn's sweep, if it found its filter; None for one of a version that noted less."""
    known = {key: artifact[key] for key in SweepResult.model_fields if key in artifact}
    try:
        return SweepResult.model_validate({**known, "best": artifact["filter"]}) if artifact.get("used") else None
    except (KeyError, ValidationError):
        return None


def _lineage(lake: Lake, config: FlywheelConfig, verdict: Decision, done: Mapping[str, Artifact]) -> Artifact:
    """As the gate saw it; of a turn that is still open, whose gate left no artifact yet, as it is now."""
    if "gate" in done:
        return done["gate"].get("lineage") or {}
    return lineage_rows(trace_lineage(lake, config, verdict.candidate or "")) or {}


def _made_with(begun: Artifact, config: FlywheelConfig) -> FlywheelConfig:
    """The configuration that the turn was begun with; today's, where another version wrote one that is not read."""
    try:
        return FlywheelConfig.model_validate(begun["config"])
    except (KeyError, ValidationError):
        return config


def _suites(evaluated: Artifact, verdict: Decision, config: FlywheelConfig) -> list[SuiteRow]:
    """The primary suite first, then guards, then those that are only reported."""
    guards = config.guard_suites()
    limits = {reason.name: reason.threshold for reason in verdict.reasons}
    found: list[SuiteRow] = []
    for name, row in evaluated.get("suites", {}).items():
        primary = name == config.evaluation.primary_suite
        low, high = row["interval"]
        found.append(
            SuiteRow(
                suite=name,
                role="decides" if primary else "guards" if name in guards else "reported",
                n=row["n"],
                live=row["live"],
                candidate=row["candidate"],
                difference=row["difference"],
                interval=(low, high) if abs(low) <= 1 and abs(high) <= 1 else None,
                threshold=limits.get("primary_gain" if primary else f"guard:{name}"),
                fixed=row["fixed"],
                newly_broken=row["newly_broken"],
            )
        )
    order = ("decides", "guards", "reported")
    return sorted(found, key=lambda row: (order.index(row.role), row.suite))


def _slices(evaluated: Artifact, suites: list[SuiteRow]) -> list[SliceRow]:
    """Groups of cases, suite by suite, those that lost most right answers first."""
    rows = [
        SliceRow(suite=row.suite, name=name, n=part["n"], live=part["before"], candidate=part["after"])
        for row in suites
        for name, part in evaluated.get("slices", {}).get(row.suite, {}).items()
    ]
    rank = {row.suite: number for number, row in enumerate(suites)}
    return sorted(rows, key=lambda row: (rank[row.suite], (row.candidate - row.live) * row.n, row.name))


class _Changed:
    """Cases that only one model answered right, with both answers; of active cases only."""

    def __init__(self, lake: Lake, config: FlywheelConfig, evaluated: Artifact, suites: list[str]) -> None:
        self.changed: Mapping[str, Mapping[str, list[str]]] = evaluated.get("changed", {})
        self.rank = {suite: number for number, suite in enumerate(suites)}
        ids = {case for lists in self.changed.values() for cases in lists.values() for case in cases}
        self.cases = {case.case_id: case for case in load_cases(lake, config.flow, suites) if case.case_id in ids}
        self.live, self.candidate = (
            _results(lake, config.flow, run, self.cases) for run in evaluated.get("run_ids", ["", ""])
        )

    def rows(self, kind: str, most: int) -> list[Changed]:
        """The clearest ones: suites that decide first, then those with the largest change of the score."""
        found: list[tuple[tuple[Any, ...], Changed]] = []
        for suite, lists in self.changed.items():
            for case_id in lists.get(kind, []):
                case, live, candidate = self.cases.get(case_id), self.live.get(case_id), self.candidate.get(case_id)
                if case is not None and live is not None and candidate is not None:
                    key = (self.rank[suite], -abs(candidate.score - live.score), case_id)
                    found.append((key, _pair(case, live, candidate)))
        return [row for _, row in sorted(found, key=lambda item: item[0])[:most]]


def _pair(case: EvalCase, live: EvalResult, candidate: EvalResult) -> Changed:
    expected = case.check.expected
    return Changed(
        case_id=case.case_id,
        suite=case.suite,
        group=case.slice,
        prompt="\n".join(
            message.content if len(case.messages) == 1 else f"{message.role}: {message.content}"
            for message in case.messages
        ),
        expected=expected if isinstance(expected, str) else json.dumps(expected, ensure_ascii=False),
        live=live.answer,
        candidate=candidate.answer,
        live_error=live.error,
        candidate_error=candidate.error,
        detail=candidate.detail or live.detail,
    )


def _results(lake: Lake, flow: str, run_id: str, cases: Mapping[str, EvalCase]) -> dict[str, EvalResult]:
    if not cases:
        return {}
    table = lake.read("eval_results", flow=flow)
    wanted = (pc.field("run_id") == run_id) & pc.field("case_id").isin(sorted(cases))
    rows = from_arrow(table.filter(wanted), EvalResult)
    return {row.case_id: row for row in rows if row.case_version == cases[row.case_id].version}


def _walk(lake: Lake, candidate: str) -> list[Manifest]:
    try:
        return lineage(lake, "model", candidate)
    except NotFoundInLakeError:
        return []


def _note(item: Manifest) -> str:
    """What a reader wants to know of a manifest in a few words."""
    data = item.data
    if item.kind == "dataset":
        chosen = data.get("filter", {}).get("version", "none")
        return f"{len(data.get('rows', [])):,} examples, filter {chosen}"
    if item.kind == "filter":
        return f"searched on {_count(data.get('label_ids'))} labels of split tune"
    if item.kind == "reward":
        folds = f"{_count(data.get('rows'))} folds"
        said = data.get("report")
        return (
            folds
            if said is None
            else f"{folds}; {said['reason']}"
            if said["usable"]
            else f"{folds}, not used; {said['reason']}"
        )
    if item.kind == "model":
        return f"made by {data['turn']}" if "turn" in data else ""
    return ""


def _count(values: Collection[Any] | None) -> int:
    return len(values or ())
