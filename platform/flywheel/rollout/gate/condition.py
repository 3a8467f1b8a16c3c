"""One condition of the gate: how it came out, and the words and numbers for people."""

from __future__ import annotations

import enum
import math
from typing import NamedTuple

from flywheel.records import Reason


class Outcome(enum.Enum):
    """How a condition came out; ``Reason.passed`` holds it in three values for people."""

    PASS = "pass"
    FAIL = "fail"
    WAIT = "wait"
    MISSING = "missing"


class Condition(NamedTuple):
    """An outcome and the reason that people read."""

    outcome: Outcome
    reason: Reason


def condition(
    name: str,
    outcome: Outcome,
    text: str,
    *,
    measured: float | None = None,
    threshold: float | None = None,
    interval: tuple[float, float] | None = None,
) -> Condition:
    """A condition with its numbers."""
    passed = None if outcome is Outcome.MISSING else outcome is Outcome.PASS
    reason = Reason(
        name=name, passed=passed, outcome=outcome.value, measured=measured, threshold=threshold, interval=interval,
        text=text,
    )  # fmt: skip
    return Condition(outcome, reason)


def missing(name: str, text: str) -> Condition:
    """A condition that nobody can know about."""
    return condition(name, Outcome.MISSING, text)


def at_least(name: str, n: int, wanted: int, text: str) -> Condition:
    """So many are needed; too few wait, and none never pass."""
    outcome = Outcome.PASS if n >= wanted and n > 0 else Outcome.WAIT
    return condition(name, outcome, text, measured=n, threshold=wanted)


def at_most(name: str, value: float | None, limit: float, text: str, *, few: bool = False) -> Condition:
    """A number without an interval against its limit; with ``few`` observations a bad one waits."""
    if value is None or not math.isfinite(value):
        return missing(name, f"Not measured: {name.replace('_', ' ')}.")
    beyond = Outcome.WAIT if few else Outcome.FAIL  # a few unlucky requests at the start prove nothing yet
    return condition(name, Outcome.PASS if value <= limit else beyond, text, measured=value, threshold=limit)


def points(share: float) -> str:
    """A difference of shares, in percentage points."""
    return f"{100 * share:+.1f} points"
