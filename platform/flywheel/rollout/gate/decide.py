"""May this candidate serve? Pure, and no by default.

Every condition gives one ``Reason``. How they add up:

==============  =========================================================================================
reject          a hard condition failed: the gain is not shown, a guard suite lost too much, the shadow
                failed or was slow, personal data leaked, data of an erased person made the candidate, or
                judging data (or a text that overlaps with it) did
inconclusive    nothing failed, but a number is missing or not finite, or the candidate was looked at before
                with intervals that hold for one look: nobody can know
continue        nothing failed or is missing, but there are too few cases or shadow pairs, an interval that may
                be looked at repeatedly does not decide yet, or a person's approval is due
promote         every condition holds
==============  =========================================================================================

The order is the precedence: one failed condition rejects, whatever else is missing. With fewer cases than
``min_primary_cases`` (or ``min_guard_cases``) a condition can still fail, when its whole interval lies on the wrong
side; otherwise it waits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from flywheel.config import GatePolicy
from flywheel.records import Verdict
from flywheel.rollout.gate.behaviour import behaviour
from flywheel.rollout.gate.condition import Condition, Outcome, condition
from flywheel.rollout.gate.evidence import GateInput, GateResult
from flywheel.rollout.gate.judged import judged
from flywheel.rollout.gate.live_quality import live_quality
from flywheel.rollout.gate.mirrored import mirrored
from flywheel.rollout.gate.origins import origins
from flywheel.rollout.gate.suites import suites

GROUPS = (suites, behaviour, mirrored, origins, judged, live_quality)
"""Every condition, group by group, in the order in which people read them."""
BY_PEOPLE = frozenset({"approval", "judge_prefers"})
"""Conditions that wait for what somebody has to do, rather than for what traffic brings."""


def decide(given: GateInput, policy: GatePolicy) -> GateResult:
    """The verdict about one candidate. See the module's text for the rules."""
    conditions = [found for group in GROUPS for found in group(given, policy)]
    conditions += _approval(given, policy)
    verdict = _verdict({found.outcome for found in conditions})
    return GateResult(
        verdict=verdict,
        reasons=[found.reason for found in conditions],
        text=_summary(verdict, given, conditions),
    )


def _approval(given: GateInput, policy: GatePolicy) -> Iterator[Condition]:
    if not policy.require_approval:
        return
    text = (
        f"{given.approved_by} approved this candidate on these results."
        if given.approved_by
        else f"A person must approve it: flywheel report, then flywheel approve {given.candidate} --reason WHY."
    )
    yield condition("approval", Outcome.PASS if given.approved_by else Outcome.WAIT, text)


def _verdict(outcomes: Collection[Outcome]) -> Verdict:
    by_precedence: dict[Outcome, Verdict] = {
        Outcome.FAIL: "reject",
        Outcome.MISSING: "inconclusive",
        Outcome.WAIT: "continue",
    }
    for outcome, verdict in by_precedence.items():
        if outcome in outcomes:
            return verdict
    return "promote"


def _summary(verdict: Verdict, given: GateInput, conditions: Collection[Condition]) -> str:
    names: Mapping[Outcome, list[str]] = {
        outcome: [item.reason.name for item in conditions if item.outcome is outcome] for outcome in Outcome
    }
    if verdict == "promote":
        return f"{given.candidate} may replace {given.live}: all {len(conditions)} conditions hold."
    if verdict == "reject":
        return f"{given.candidate} may not replace {given.live}; failed: {', '.join(names[Outcome.FAIL])}."
    if verdict == "inconclusive":
        return f"{given.candidate} cannot be judged; not measured: {', '.join(names[Outcome.MISSING])}."
    return f"{given.candidate} needs more evidence; too little of: {', '.join(names[Outcome.WAIT])}."
