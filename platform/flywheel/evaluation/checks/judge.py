"""A judge scores the answer against the criterion that is written as ``expected``; from ``threshold`` on it passes."""

from __future__ import annotations

from typing import Final

from flywheel.errors import UsageError
from flywheel.evaluation.checks.base import CheckResult, Opinion, ScoredRule, text_of
from flywheel.evaluation.checks.grade import at_least
from flywheel.records import Check

THRESHOLD: Final = 0.5


def _validate(check: Check) -> None:
    if not text_of(check).strip():
        raise UsageError("a check of kind 'judge' expects the criterion that the judge goes by")
    if check.threshold is not None and not 0 < check.threshold <= 1:
        raise UsageError("a check of kind 'judge' has a threshold in (0, 1]: the judge's score that passes")


def _grade(check: Check, opinion: Opinion) -> CheckResult:
    return at_least(THRESHOLD if check.threshold is None else check.threshold, opinion, "judge's score")


RULE = ScoredRule(_validate, _grade)
