"""Two models on the same cases, apart from right and wrong: time, tokens, length, empty answers, refusals. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from flywheel.config import EvaluationConfig
from flywheel.records import EvalResult
from flywheel.statistics.bootstrap import Estimate, paired_difference
from flywheel.statistics.medians import median_ratio
from flywheel.text.refusals import refuses

Measure = Callable[[EvalResult], float | None]
RESAMPLES: Final = 2_000
"""Enough for percentile intervals of limits (Efron and Tibshirani 1993, section 14.3); the gain's has more."""


@dataclass(frozen=True)
class BehaviourChange:
    """One property: median or share before and after, and their ratio or difference over ``n`` pairs."""

    n: int
    before: float
    after: float
    value: float
    low: float
    high: float


def _tokens(result: EvalResult) -> float | None:
    if result.completion_tokens is None:
        return None
    return float((result.prompt_tokens or 0) + result.completion_tokens)


RATIOS: Final[dict[str, Measure]] = {
    "latency": lambda result: result.latency_ms,
    "tokens": _tokens,
    "length": lambda result: float(len(result.answer.strip())),
}
"""Compared as after / before of medians."""

SHARES: Final[dict[str, Measure]] = {
    "empty": lambda result: float(not result.answer.strip()),
    "refusals": lambda result: float(refuses(result.answer)),
}
"""Compared as after - before of shares."""


def behaviour(
    before: Sequence[EvalResult], after: Sequence[EvalResult], config: EvaluationConfig, *, seed: int = 0
) -> dict[str, BehaviourChange]:
    """What changed, by the names of ``RATIOS`` and ``SHARES``; what was measured in no pair is left out.

    Cases that either model failed to answer say nothing about its answers and are passed over.

    Args:
        before: results of the live model on one suite.
        after: results of the candidate.
        config: resamples and confidence.
        seed: of the bootstrap.
    """
    left = {(row.case_id, row.case_version): row for row in before if row.error is None}
    right = {(row.case_id, row.case_version): row for row in after if row.error is None}
    pairs = [(left[key], right[key]) for key in sorted(left.keys() & right.keys())]
    found: dict[str, BehaviourChange] = {}
    for name, measure in {**RATIOS, **SHARES}.items():
        change = _change(pairs, measure, config, seed, ratio=name in RATIOS)
        if change is not None:
            found[name] = change
    return found


def _change(
    pairs: Sequence[tuple[EvalResult, EvalResult]],
    measure: Measure,
    config: EvaluationConfig,
    seed: int,
    *,
    ratio: bool,
) -> BehaviourChange | None:
    rows = [(row, measure(row), measure(other)) for row, other in pairs]
    kept = [(row, was, now) for row, was, now in rows if was is not None and now is not None]
    if not kept:
        return None
    was, now = [row[1] for row in kept], [row[2] for row in kept]
    clusters = [row.subject or row.case_id for row, _, _ in kept]
    compare = median_ratio if ratio else paired_difference
    found: Estimate = compare(
        now, was, resamples=min(RESAMPLES, config.resamples), confidence=config.confidence, seed=seed, clusters=clusters
    )
    if not all(map(math.isfinite, (found.mean, found.low, found.high))):
        return None  # nothing to divide by, or one person alone
    middle = _median if ratio else _mean
    return BehaviourChange(len(kept), middle(was), middle(now), found.mean, found.low, found.high)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _median(values: Sequence[float]) -> float:
    """The lower median, as in ``median_ratio``."""
    return sorted(values)[(len(values) - 1) // 2]
