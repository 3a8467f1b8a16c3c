"""Equal in the form of ``text.normalise``: case, Unicode form, white space and outer punctuation do not count."""

from __future__ import annotations

from flywheel.evaluation.checks.base import CheckResult, Rule, text_of, verdict
from flywheel.records import Check
from flywheel.text.normalise import normalise


def _validate(check: Check) -> None:
    text_of(check)


def _mark(check: Check, answer: str) -> CheckResult:
    return verdict(normalise(answer) == normalise(text_of(check)), "differs from the expected text, normalised")


RULE = Rule(_validate, _mark)
