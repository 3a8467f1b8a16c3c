"""The answer means what the expected text means: the cosine of their embeddings is at least ``threshold``."""

from __future__ import annotations

from flywheel.errors import UsageError
from flywheel.evaluation.checks.base import CheckResult, Opinion, ScoredRule, text_of
from flywheel.evaluation.checks.grade import at_least
from flywheel.records import Check


def _validate(check: Check) -> None:
    if not text_of(check).strip():
        raise UsageError("a check of kind 'similarity' expects a text to compare with")
    if check.threshold is None or not 0 < check.threshold <= 1:
        raise UsageError("a check of kind 'similarity' needs a threshold in (0, 1]: the cosine that passes")


def _grade(check: Check, opinion: Opinion) -> CheckResult:
    return at_least(check.threshold or 1.0, opinion, "similarity")


RULE = ScoredRule(_validate, _grade)
