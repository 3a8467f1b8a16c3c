"""One model's results on some suites as numbers: accuracy per suite and slice, tokens, cost, latency. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from flywheel.config import EvaluationConfig, FlywheelConfig
from flywheel.records import EvalResult
from flywheel.statistics.bootstrap import Estimate, mean_interval

FEW: Final = 30
"""A slice of fewer people (or cases, where nobody knows the people) has no interval worth showing: it says "few"."""

INTENT: Final = "intent"
"""The group that ``EvalCase.slice`` is a value of; further groups come from ``EvalCase.slices``."""


@dataclass(frozen=True)
class SliceScore:
    """Cases that share a value of one group, e.g. all of one language."""

    n: int
    passed: int
    accuracy: Estimate

    @property
    def few(self) -> bool:
        """Whether the interval would say nothing."""
        return self.accuracy.clusters < FEW

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``; a small slice has ``"few": true`` and no interval."""
        interval = None if self.few else [self.accuracy.low, self.accuracy.high]
        share = {"n": self.n, "passed": self.passed, "accuracy": self.accuracy.mean, "interval": interval}
        return {**share, "few": self.few}


@dataclass(frozen=True)
class Usage:
    """What the answers took. ``cost`` is in the currency of the configured prices; None: no price, or no counts."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None
    latency_ms: float | None = None
    latency_p95_ms: float | None = None


@dataclass(frozen=True)
class SuiteScore:
    """One suite's outcome: cases, passed ones, accuracy with its interval, mean score, slices by group and value."""

    suite: str
    n: int
    passed: int
    errors: int
    accuracy: Estimate
    score: float
    usage: Usage = field(default_factory=Usage)
    slices: dict[str, dict[str, SliceScore]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json`` and tracking."""
        known = math.isfinite(self.accuracy.low)  # one subject alone has no spread
        return {
            "suite": self.suite,
            "n": self.n,
            "passed": self.passed,
            "errors": self.errors,
            "accuracy": self.accuracy.mean,
            "interval": [self.accuracy.low, self.accuracy.high] if known else None,
            "score": self.score,
            **vars(self.usage),
            "slices": {
                group: {value: part.as_dict() for value, part in parts.items()} for group, parts in self.slices.items()
            },
        }


def summarise(results: Sequence[EvalResult], config: FlywheelConfig, seed: int) -> dict[str, SuiteScore]:
    """Counts, accuracy intervals (bootstrap over subjects where they are known) and usage, per suite and slice."""
    by_suite: dict[str, list[EvalResult]] = defaultdict(list)
    for result in results:
        by_suite[result.suite].append(result)
    return {name: _suite(name, by_suite[name], config.evaluation, seed) for name in sorted(by_suite)}


def _suite(name: str, items: Sequence[EvalResult], policy: EvaluationConfig, seed: int) -> SuiteScore:
    slices: dict[str, dict[str, list[EvalResult]]] = defaultdict(lambda: defaultdict(list))
    for item in items:
        for group, value in _groups(item):
            slices[group][value].append(item)
    return SuiteScore(
        suite=name,
        n=len(items),
        passed=sum(item.passed for item in items),
        errors=sum(item.error is not None for item in items),
        accuracy=_accuracy(items, policy, seed),
        score=float(np.mean([item.score for item in items])),
        usage=usage(items, policy),
        slices={
            group: {value: _slice(parts[value], policy, seed) for value in sorted(parts)}
            for group, parts in sorted(slices.items())
        },
    )


def usage(items: Sequence[EvalResult], policy: EvaluationConfig) -> Usage:
    """Tokens, their cost, median and 95th percentile of the latency, over the items that have them."""
    asked, said = (_total(items, name) for name in ("prompt_tokens", "completion_tokens"))
    prices = (policy.price_per_1k_prompt_tokens, policy.price_per_1k_completion_tokens)
    priced = any(price is not None for price in prices) and asked is not None and said is not None
    times = [item.latency_ms for item in items if item.latency_ms is not None and item.error is None]
    median, p95 = (float(value) for value in np.quantile(times, [0.5, 0.95])) if times else (None, None)
    return Usage(
        prompt_tokens=asked,
        completion_tokens=said,
        cost=((asked or 0) * (prices[0] or 0) + (said or 0) * (prices[1] or 0)) / 1_000 if priced else None,
        latency_ms=median,
        latency_p95_ms=p95,
    )


def _groups(item: EvalResult) -> Iterator[tuple[str, str]]:
    if item.slice is not None:
        yield INTENT, item.slice
    yield from item.slices.items()


def _slice(items: Sequence[EvalResult], policy: EvaluationConfig, seed: int) -> SliceScore:
    return SliceScore(len(items), sum(item.passed for item in items), _accuracy(items, policy, seed))


def _accuracy(items: Sequence[EvalResult], policy: EvaluationConfig, seed: int) -> Estimate:
    return mean_interval(
        np.array([item.passed for item in items], dtype=float),
        resamples=policy.resamples,
        confidence=policy.confidence,
        seed=seed,
        clusters=[item.subject or item.case_id for item in items],
    )


def _total(items: Sequence[EvalResult], name: str) -> int | None:
    known = [count for item in items if (count := getattr(item, name)) is not None]
    return sum(known) if known else None
