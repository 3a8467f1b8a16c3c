"""Promotion of a ranker: judged off-policy, one row of ``decisions`` whatever comes out, and one state if it passed."""

from __future__ import annotations

from flywheel.config import FlywheelConfig
from flywheel.errors import UsageError
from flywheel.lake.erasures import tainted_lineage
from flywheel.lake.manifests import content_id
from flywheel.lake.tables import Lake, open_lake
from flywheel.records import Decision, Reason, Record, utcnow
from flywheel.registry.rankers import KIND, ranker_manifest
from flywheel.rollout import history, ranker_steps
from flywheel.rollout import ranker_routing as truth
from flywheel.rollout.ranker_routing import RankerRouting
from flywheel.workflow.rankers.judge import judge_ranker, mirrored
from flywheel.workflow.rankers.learn import tables
from flywheel.workflow.turns.lease import RANKING, only_one


class Promotion(Record):
    """What came of it."""

    version: str
    promoted: bool
    changed: bool
    reasons: list[Reason]
    routing: RankerRouting | None


def promote(
    config: FlywheelConfig, version: str | None = None, *, actor: str, reason: str = "", override: bool = False
) -> Promotion:
    """Judge the ranker in the shadow and put it live if it passes.

    Args:
        config: the flow.
        version: default: the one in the shadow.
        actor: who.
        reason: why; needed with ``override``.
        override: although it does not pass. One that was made of erased data never serves.

    Raises:
        UsageError: there is no such shadow, or an override without a reason.
        BusyError: a training or an erasure is running, or another ranker became live meanwhile.
    """
    if override and not reason.strip():
        raise UsageError("Say why with --reason: it is kept with the decision.")
    with only_one(config, RANKING):
        lake = open_lake(config)
        now = truth.current(lake.store, config.flow)
        chosen = version or (now.shadows[-1].version if now and now.shadows else None)
        if chosen is None:
            raise UsageError("no ranker is in the shadow; train one: flywheel ranker train")
        ranker_manifest(lake, config.flow, chosen)
        if now is not None and now.live is not None and now.live.version == chosen:
            return Promotion(version=chosen, promoted=True, changed=False, reasons=[], routing=now)
        truth.promoted(now, config.flow, chosen, reasons=[], actor=actor, reason=reason)  # refuses what is no shadow
        reasons, evidence = _judged(lake, config, chosen)
        passed = all(one.passed for one in reasons)
        clean = next(one for one in reasons if one.name == "erased").passed
        if not clean or not (passed or override):
            live = now.live.version if now and now.live else None
            _record(lake, config, chosen, live, reasons=reasons, evidence=evidence, actor=actor)
            return Promotion(version=chosen, promoted=False, changed=False, reasons=reasons, routing=now)
        why = reason or "passed"
        state, changed = ranker_steps.apply(
            lake, config.flow,
            lambda seen: truth.promoted(seen, config.flow, chosen, reasons=reasons, actor=actor, reason=why),
        )  # fmt: skip
    return Promotion(version=chosen, promoted=True, changed=changed, reasons=reasons, routing=state)


def rollback(config: FlywheelConfig, *, actor: str, reason: str) -> RankerRouting:
    """Back to what was live before, if only the product's own scores.

    Raises:
        UsageError: nothing to go back from, or no reason.
    """
    if not reason.strip():
        raise UsageError("Say why with --reason: it is kept with the decision.")
    lake, seen = open_lake(config), []

    def step(now: RankerRouting | None) -> RankerRouting:
        seen[:] = [truth.rolled_back(now, config.flow, actor=actor, reason=reason)]
        return seen[0]

    ranker_steps.apply(lake, config.flow, step)
    return seen[0]


def _judged(lake: Lake, config: FlywheelConfig, version: str) -> tuple[list[Reason], str]:
    """What speaks for and against it, and the name of the evidence."""
    lists, feedback, allowed = tables(lake, config.flow, "evaluation", {})
    seen = mirrored(lists, feedback, version=version, allowed=allowed)
    earlier = {
        tuple(row.evidence)
        for row in history.decisions(lake, config.flow)
        if row.action == "ranker_gate" and row.candidate == version and _could_pass(row)
    }
    judged = judge_ranker(seen, config.quality.ranker, look=1 + len(earlier - {(seen.identity,)}))
    erased = tainted_lineage(lake, KIND, version)
    text = "made of nothing that was erased since" if erased == [] else f"made of data of people erased since: {erased}"
    return [*judged.reasons, Reason(name="erased", passed=erased == [], text=text)], seen.identity


def _could_pass(row: Decision) -> bool:
    """Looks at too few lists could not promote, and cost nothing: so that waiting up to that number is free."""
    return any(one.name == "shadow_lists" and one.passed for one in row.reasons)


def _record(
    lake: Lake, config: FlywheelConfig, version: str, live: str | None, *, reasons: list[Reason],
    evidence: str, actor: str,
) -> None:  # fmt: skip
    identity = content_id("ranker-gate", config.flow, version, live, list(reasons), evidence)
    row = Decision(
        decision_id=identity, flow=config.flow, ts=utcnow(), action="ranker_gate", verdict="inconclusive",
        candidate=version, live=live, actor=actor, reasons=reasons, evidence=[evidence],
        text="; ".join(one.text for one in reasons if not one.passed),
    )  # fmt: skip
    lake.append("decisions", [row], app=f"decisions/{config.flow}/{identity}", version=0)
