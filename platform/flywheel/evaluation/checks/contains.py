"""Every expected text occurs in the answer, both in normal form; the score is the share that does."""

from __future__ import annotations

from flywheel.errors import UsageError
from flywheel.evaluation.checks.base import CheckResult, Rule
from flywheel.records import Check
from flywheel.text.normalise import normalise


def _validate(check: Check) -> None:
    _texts(check)


def _mark(check: Check, answer: str) -> CheckResult:
    wanted, found = _texts(check), normalise(answer)
    absent = [text for text in wanted if normalise(text) not in found]
    score = 1 - len(absent) / len(wanted)
    return CheckResult(not absent, score, f"does not contain {absent[0]!r}" if absent else "")


def _texts(check: Check) -> list[str]:
    wanted = check.expected if isinstance(check.expected, list) else [check.expected]
    if not wanted or not all(isinstance(text, str) and text.strip() for text in wanted):
        raise UsageError("a check of kind 'contains' expects a text, or a list of texts, none of them empty")
    return [str(text) for text in wanted]


RULE = Rule(_validate, _mark)
