"""From an opinion to a mark."""

from __future__ import annotations

import math

from flywheel.evaluation.checks.base import CheckResult, Opinion, verdict


def at_least(threshold: float, opinion: Opinion, name: str) -> CheckResult:
    """Passes from ``threshold`` on; below it the score itself is the partial credit."""
    if opinion.score is None or not math.isfinite(opinion.score):
        return verdict(False, opinion.detail or f"no {name}")
    if opinion.score >= threshold:
        return verdict(True, "")
    detail = opinion.detail or f"{name} {opinion.score:.2f} is below {threshold:g}"
    return CheckResult(False, max(0.0, opinion.score), detail)
