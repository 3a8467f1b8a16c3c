"""What live traffic says about the candidate's answers, where the policy asks for it."""

from __future__ import annotations

from typing import Final

from flywheel.config import GatePolicy
from flywheel.records import Reason
from flywheel.rollout.gate.condition import Condition, Outcome, condition, missing
from flywheel.rollout.gate.evidence import GateInput
from flywheel.rollout.live.result import LiveVerdict

NAME: Final = "live_quality"
_WORDS: Final = {
    "better": "better than the live model",
    "no_worse": "no worse than the live model",
    "worse": "worse than the live model",
    "undecided": "not told apart from the live model yet",
}


def live_quality(given: GateInput, policy: GatePolicy) -> list[Condition]:
    """Live pairs must show that it is no worse. One that is shown to be worse is refused, asked for or not."""
    found = given.live_quality
    if found is None:
        told = "No answers to live traffic were compared with the live model's (rollout.live)."
        return [missing(NAME, told)] if policy.require_live_quality else []
    if (found.candidate, found.live) != (given.candidate, given.live):
        told = f"The comparison on live traffic is of {found.candidate} with {found.live}, not of these two models."
        return [missing(NAME, told)]
    if found.state != "worse" and not policy.require_live_quality:
        return []
    return [_condition(found)]


def _condition(found: LiveVerdict) -> Condition:
    interval = None if found.low is None or found.high is None else (found.low, found.high)
    return condition(NAME, _outcome(found), _text(found), measured=found.mean, interval=interval)


def _outcome(found: LiveVerdict) -> Outcome:
    if found.state == "worse":
        return Outcome.FAIL
    if found.state != "undecided":
        return Outcome.PASS if found.mean is not None else Outcome.MISSING
    return Outcome.MISSING if any(reason.outcome == "missing" for reason in found.reasons) else Outcome.WAIT


def _text(found: LiveVerdict) -> str:
    because = [reason for reason in found.reasons if _speaks(reason, found)]
    told = f"On {found.units:,} units of live traffic (planned: {found.planned_units:,}) it is {_WORDS[found.state]}."
    return " ".join([told, *(reason.text for reason in because[:3])])


def _speaks(reason: Reason, found: LiveVerdict) -> bool:
    """Whether people should read it: what failed; else what is missing; else what is waited for."""
    wanted = "fail" if found.state == "worse" else "missing"
    if all(one.outcome != wanted for one in found.reasons):
        wanted = "wait"
    return reason.outcome == wanted
