"""The report's words for somebody who decides about a product, not about statistics. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from flywheel.records import Reason, Verdict
from flywheel.workflow.turns.report.model import SuiteRow

HEADLINES: Final[dict[Verdict, str]] = {
    "promote": "Promoted",
    "reject": "Not promoted",
    "continue": "Not decided yet",
    "inconclusive": "Cannot be judged",
}

TITLES: Final[dict[str, str]] = {
    "primary_cases": "Enough labelled requests",
    "primary_gain": "More right answers",
    "complete_pairs": "Answers of both models",
    "one_look": "Judged once",
    "offline_latency": "Speed while evaluating",
    "token_cost": "Cost in tokens",
    "longer_answers": "Answers not too long",
    "shorter_answers": "Answers not too short",
    "empty_answers": "No more empty answers",
    "refusals": "No more refusals",
    "shadow_pairs": "Enough live requests",
    "shadow_errors": "Reliable on live requests",
    "shadow_latency": "Quick on live requests",
    "live_quality": "No worse on live requests",
    "no_leaks": "No personal data learnt",
    "no_erased_data": "No erased data learnt",
    "no_contamination": "Tests not seen in training",
    "audit_labels": "Enough audit labels",
    "audit_agreement": "Filter agrees with people",
    "separate_judges": "Judged by unseen data",
    "approval": "A person approved",
}
"""Name of a condition -> what it asks, in two to four words."""

STATUS: Final[dict[str, tuple[str, str]]] = {
    "fail": ("✗", "failed"),
    "missing": ("?", "not measured"),
    "wait": ("…", "waiting"),
    "pass": ("✓", "holds"),
}
"""Outcome -> its mark and word, in the order in which people should read them."""


def title(name: str) -> str:
    """A condition's name for people."""
    if name.startswith("guard:"):
        return f"No worse on {name.removeprefix('guard:')}"
    return TITLES.get(name, name.replace("_", " ").capitalize())


def outcome(reason: Reason) -> str:
    """How a condition came out; of rows made before outcomes were stored, what ``passed`` still tells."""
    if reason.outcome is not None:
        return reason.outcome
    return {True: "pass", False: "fail", None: "missing"}[reason.passed]


class Parted(NamedTuple):
    """What stands in the way, failures first, and what does not."""

    open: list[Reason]
    held: list[Reason]


def parted(conditions: Sequence[Reason]) -> Parted:
    """Conditions in the order in which people should read them."""
    order = list(STATUS)
    ranked = sorted(conditions, key=lambda reason: order.index(outcome(reason)))
    return Parted([one for one in ranked if outcome(one) != "pass"], [one for one in ranked if outcome(one) == "pass"])


def sentence(verdict: Verdict, candidate: str, conditions: Sequence[Reason], suites: Sequence[SuiteRow]) -> str:
    """One sentence: what the new model does better or worse, and what follows."""
    primary = next((row for row in suites if row.role == "decides"), None)
    by = {kind: [reason for reason in conditions if outcome(reason) == kind] for kind in STATUS}
    if verdict == "promote":
        return f"{candidate} meets every condition and now serves.{_gained(primary)}"
    if verdict == "reject":
        return f"{candidate} stays out: {_and([_failure(reason, primary, suites) for reason in by['fail']])}."
    if verdict == "inconclusive":
        return f"Nobody can know whether {candidate} is better: {_and(_names(by['missing']))} could not be measured."
    if [reason.name for reason in by["wait"]] == ["approval"]:
        return f"{candidate} meets every other condition and waits for a person to approve it.{_gained(primary)}"
    return f"Nothing speaks against {candidate} so far; more evidence is needed for {_and(_names(by['wait']))}."


def _gained(row: SuiteRow | None) -> str:
    return f" It answers {row.candidate:.1%} of requests right, where {row.live:.1%} were before." if row else ""


def _failure(reason: Reason, primary: SuiteRow | None, suites: Sequence[SuiteRow]) -> str:
    if reason.name == "primary_gain" and primary:
        better = "a gain that may be chance" if primary.difference > 0 else "no gain"
        return f"it answers {primary.candidate:.1%} of requests right and the live model {primary.live:.1%}, {better}"
    guard = next((row for row in suites if reason.name == f"guard:{row.suite}"), None)
    if guard and guard.interval and guard.threshold is not None:
        return (
            f"on “{guard.suite}” it may have lost up to {-100 * guard.interval[0]:.1f} points, "
            f"more than the {-100 * guard.threshold:.1f} that are allowed"
        )
    if reason.name == "separate_judges":
        return "data that judges it was also used to make it, so its score proves nothing"
    if reason.name == "no_erased_data":
        return "it learnt from a person who asked to be forgotten"
    return f"“{title(reason.name)}” failed"


def _names(reasons: Sequence[Reason]) -> list[str]:
    return [f"“{title(reason.name)}”" for reason in reasons]


def _and(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
