"""How an answer is marked: one file a kind, and an explicit dict as the registry.

``exact``       equal after white space at both ends is removed
``normalised``  equal after ``text.normalise`` (case, Unicode form, white space, outer punctuation)
``contains``    every expected text occurs, normalised; the score is the share that does
``regex``       the pattern is found, within a time limit
``json``        the answer is JSON and agrees field by field, or validates against a JSON Schema
``numeric``     the last number of the answer, or a JSON field, within a tolerance
``similarity``  means what the expected text means: cosine of embeddings     ┐
``reward``      a reward model likes it as much as the expected answer       │ a scorer is handed in:
``judge``       a judge scores it against the criterion                      │ see ``base.Scorers``
``code``        its code passes the tests, in a sandbox; off by default      ┘
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from flywheel.evaluation.checks import (
    code,
    contains,
    exact,
    judge,
    normalised,
    numeric,
    pattern,
    reward,
    similarity,
    structure,
)
from flywheel.evaluation.checks.base import CheckResult, Item, Opinion, Rule, ScoredRule, Scorer, Scorers
from flywheel.records import Check, CheckKind, Message

__all__ = [
    "CHECKS", "CheckResult", "Item", "Opinion", "Scorer", "Scorers", "check_for", "mark_all", "run_check", "validate",
    "versions",
]  # fmt: skip

CHECKS: Final[dict[CheckKind, Rule | ScoredRule]] = {
    "exact": exact.RULE,
    "normalised": normalised.RULE,
    "contains": contains.RULE,
    "regex": pattern.RULE,
    "json": structure.RULE,
    "numeric": numeric.RULE,
    "similarity": similarity.RULE,
    "reward": reward.RULE,
    "judge": judge.RULE,
    "code": code.RULE,
}

NONE: Final = Scorers()


def mark_all(items: Sequence[Item], scorers: Scorers = NONE) -> list[CheckResult]:
    """Mark many answers, in their order; what needs a scorer is scored in one call a kind.

    Raises:
        UsageError: a check itself is wrong, or its scorer is missing (see ``validate``).
    """
    marks: dict[int, CheckResult] = {}
    waiting: defaultdict[CheckKind, list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        rule = CHECKS[item.check.kind]
        if isinstance(rule, Rule):
            marks[place] = rule.mark(item.check, item.answer)
        else:
            waiting[item.check.kind].append(place)
    for kind, places in waiting.items():
        opinions = scorers.get(kind)([items[place] for place in places])
        for place, opinion in zip(places, opinions, strict=True):
            marks[place] = _grade(items[place].check, opinion)
    return [marks[place] for place in range(len(items))]


def run_check(check: Check, answer: str, *, messages: Sequence[Message] = (), scorers: Scorers = NONE) -> CheckResult:
    """Mark one answer. Never raises for anything in the answer.

    Raises:
        UsageError: the check itself is wrong, or its scorer is missing (see ``validate``).
    """
    return mark_all([Item(messages, check, answer)], scorers)[0]


def validate(check: Check, scorers: Scorers | None = None) -> None:
    """Refuse a check that could never mark an answer, before anything is answered.

    Args:
        check: the check.
        scorers: given: the one that this check needs must be among them.

    Raises:
        UsageError: says what is wrong with it, or what to do to have its scorer.
    """
    rule = CHECKS[check.kind]
    rule.validate(check)
    if scorers is not None and isinstance(rule, ScoredRule):
        scorers.get(check.kind)


def versions(checks: Iterable[Check], scorers: Scorers) -> dict[str, str]:
    """What marks these checks besides this code; empty where texts alone do. Part of a result's identity."""
    kinds = {check.kind for check in checks}
    return {kind: version for kind, version in sorted(scorers.versions.items()) if kind in kinds}


def check_for(expected: str) -> Check:
    """The check that fits an expected answer: JSON objects are compared by field, other text normalised."""
    try:
        value = json.loads(expected)
    except ValueError:
        value = None
    if isinstance(value, dict):
        return Check(kind="json", expected=value)
    return Check(kind="normalised", expected=expected)


def _grade(check: Check, opinion: Opinion) -> CheckResult:
    rule = CHECKS[check.kind]
    assert isinstance(rule, ScoredRule)
    return rule.grade(check, opinion)
