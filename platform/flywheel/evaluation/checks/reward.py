"""A reward model likes the answer at least as much as the expected one.

Rewards of different prompts share no zero, so what counts is the difference to the reward of the reference answer
``expected``, in log-odds: at least ``threshold``, default 0. An empty ``expected`` compares the reward itself.
"""

from __future__ import annotations

import math

from flywheel.errors import UsageError
from flywheel.evaluation.checks.base import CheckResult, Opinion, ScoredRule, text_of, verdict
from flywheel.records import Check


def _validate(check: Check) -> None:
    if not text_of(check).strip() and check.threshold is None:
        raise UsageError(
            "a check of kind 'reward' expects a reference answer, or has a threshold for the reward itself"
        )
    if check.threshold is not None and not math.isfinite(check.threshold):
        raise UsageError("a check of kind 'reward' has a finite threshold, in log-odds")


def _grade(check: Check, opinion: Opinion) -> CheckResult:
    if opinion.score is None or not math.isfinite(opinion.score):
        return verdict(False, opinion.detail or "the reward model has no opinion")
    beyond = opinion.score - (check.threshold or 0.0)
    if beyond >= 0:
        return verdict(True, "")
    # Below the threshold: the probability of being preferred to an answer that just passes (Bradley-Terry).
    score = 1 / (1 + math.exp(min(-beyond, 50.0)))
    return CheckResult(False, score, f"reward {opinion.score:.2f} is below {check.threshold or 0.0:.2f}")


RULE = ScoredRule(_validate, _grade)
