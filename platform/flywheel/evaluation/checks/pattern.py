"""A regular expression is found in the answer, within a time limit."""

from __future__ import annotations

import functools
from typing import Final

import regex

from flywheel.errors import UsageError
from flywheel.evaluation.checks.base import CheckResult, Rule, text_of, verdict
from flywheel.records import Check

SECONDS: Final = 0.25
"""One search may take so long; a pattern that backtracks for ever fails its case instead of stopping a run."""


def _validate(check: Check) -> None:
    _compiled(text_of(check))


def _mark(check: Check, answer: str) -> CheckResult:
    try:
        found = _compiled(text_of(check)).search(answer, timeout=SECONDS)
    except TimeoutError:
        return verdict(False, f"pattern took longer than {SECONDS} s on this answer")
    return verdict(found is not None, "pattern not found")


@functools.lru_cache(maxsize=256)
def _compiled(text: str) -> regex.Pattern[str]:
    try:
        return regex.compile(text)
    except regex.error as error:
        raise UsageError(f"a check of kind 'regex' has a pattern that does not compile: {error}") from error


RULE = Rule(_validate, _mark)
