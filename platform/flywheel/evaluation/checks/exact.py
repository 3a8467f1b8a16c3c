"""Equal after white space at both ends is removed."""

from __future__ import annotations

from flywheel.evaluation.checks.base import CheckResult, Rule, text_of, verdict
from flywheel.records import Check


def _validate(check: Check) -> None:
    text_of(check)


def _mark(check: Check, answer: str) -> CheckResult:
    return verdict(answer.strip() == text_of(check).strip(), "differs from the expected text")


RULE = Rule(_validate, _mark)
