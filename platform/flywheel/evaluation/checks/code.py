"""The answer's Python code passes the tests that are written as ``expected``, run in a sandbox after it.

Answer and tests share one interpreter, as in HumanEval (Chen et al. 2021): code that quits early or only prints
does not pass, but a model that is trained against a test can learn to bend it (an ``__eq__`` that is always true).
"""

from __future__ import annotations

import regex

from flywheel.errors import UsageError
from flywheel.evaluation.checks.base import CheckResult, Opinion, ScoredRule, text_of, verdict
from flywheel.records import Check

_BLOCK = regex.compile(
    r"^[ \t]*(?P<fence>`{3,}|~{3,})[^\n`]*\n(?P<code>.*?)(?:^[ \t]*(?P=fence)|\Z)", regex.S | regex.M
)


def code_of(answer: str) -> str:
    """The answer's last fenced block of code, or all of it where there is none."""
    blocks = [block["code"] for block in _BLOCK.finditer(answer)]
    return blocks[-1] if blocks else answer


def _validate(check: Check) -> None:
    tests = text_of(check)
    try:
        compile(tests, "tests", "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"a check of kind 'code' has tests that are no Python: {error}") from error
    if not tests.strip():
        raise UsageError("a check of kind 'code' expects tests: Python that raises where the answer is wrong")


def _grade(_check: Check, opinion: Opinion) -> CheckResult:
    return verdict(opinion.score == 1, opinion.detail or "the tests did not pass")


RULE = ScoredRule(_validate, _grade)
