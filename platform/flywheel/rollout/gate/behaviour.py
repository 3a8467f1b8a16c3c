"""How answers may change apart from right and wrong: time, tokens, length, empty ones, refusals.

Each is a non-inferiority test on the primary suite: the whole interval must lie within the limit. Limits that the
policy does not set are not asked about. The intervals are bootstrap intervals of one look; looking repeatedly can
weaken these limits, never the gain (``suites``), which decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

from flywheel.config import GatePolicy
from flywheel.rollout.gate.condition import Condition, Outcome, condition, missing, points
from flywheel.rollout.gate.evidence import Behaviour, Change, GateInput
from flywheel.rollout.gate.suites import undecided


class _Limit(NamedTuple):
    """One limit: what it is about, the policy's setting, and the words."""

    measure: Behaviour
    setting: Callable[[GatePolicy], float | None]
    what: str
    unit: str
    below: bool = False  # a lower limit


LIMITS: Final[dict[str, _Limit]] = {
    "offline_latency": _Limit("latency", lambda p: p.max_offline_latency_ratio, "A typical answer takes", "ms"),
    "token_cost": _Limit("tokens", lambda p: p.max_token_ratio, "A typical request costs", "tokens"),
    "longer_answers": _Limit("length", lambda p: p.max_length_ratio, "A typical answer has", "characters"),
    "shorter_answers": _Limit("length", lambda p: p.min_length_ratio, "A typical answer has", "characters", below=True),
    "empty_answers": _Limit("empty", lambda p: p.max_empty_increase, "Empty answers", ""),
    "refusals": _Limit("refusals", lambda p: p.max_refusal_increase, "Answers that refuse", ""),
}


def behaviour(given: GateInput, policy: GatePolicy) -> list[Condition]:
    """One condition for each limit that the policy sets."""
    found = []
    for name, limit in LIMITS.items():
        bound = limit.setting(policy)
        if bound is not None:
            found.append(_condition(name, limit, bound, given, policy))
    return found


def _condition(name: str, limit: _Limit, bound: float, given: GateInput, policy: GatePolicy) -> Condition:
    change = given.behaviour.get(limit.measure)
    if change is None or change.n < 1 or not all(map(math.isfinite, (change.value, change.low, change.high))):
        return missing(name, f"Not measured on the primary suite: {name.replace('_', ' ')}.")
    few = change.n < policy.min_primary_cases
    within = change.low >= bound if limit.below else change.high <= bound
    beyond = change.high < bound if limit.below else change.low > bound
    if within:
        outcome = Outcome.PASS
    else:
        outcome = Outcome.WAIT if (few or undecided(given, policy)) and not beyond else Outcome.FAIL
    return condition(
        name, outcome, _words(limit, change, bound), measured=change.value, threshold=bound,
        interval=(change.low, change.high),
    )  # fmt: skip


def _words(limit: _Limit, change: Change, bound: float) -> str:
    if not limit.unit:
        return (
            f"{limit.what}: {change.before:.1%} of the live model's, {change.after:.1%} of the candidate's: "
            f"{points(change.value)} ({points(change.low)} to {points(change.high)}). "
            f"All of the interval must lie at or below {points(bound)}."
        )
    return (
        f"{limit.what} {change.before:,.0f} {limit.unit} with the live model, {change.after:,.0f} with the candidate: "
        f"{change.value:.2f} times ({change.low:.2f} to {change.high:.2f}). "
        f"All of the interval must lie at or {'above' if limit.below else 'below'} {bound:g}."
    )
