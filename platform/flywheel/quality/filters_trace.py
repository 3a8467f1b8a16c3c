"""Every rule and vote about one row, with the bound it was held to: what ``curate explain`` shows."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from flywheel.config import FilterConfig
from flywheel.config.filters import FilterRule
from flywheel.quality.filters import Columns, approves, concerns, limits, meets, number, outcomes
from flywheel.quality.filters_weights import ramp, weigh
from flywheel.records import Record


class RuleCheck(Record):
    """One rule and one row. ``passed`` is None where the rule is not about such rows."""

    reason: str
    signal: str
    value: float | None
    bound: str
    passed: bool | None
    note: str = ""


class VoteCheck(Record):
    """One signal's vote on one row."""

    signal: str
    group: str
    value: float | None
    bound: str
    approves: bool


class WeightCheck(Record):
    """One factor of a row's loss weight."""

    signal: str
    value: float | None
    factor: float


class Trace(Record):
    """A filter's whole opinion of one row; ``reason`` is the first rule that it fails, None where it passes all."""

    reason: str | None
    rules: list[RuleCheck]
    votes: list[VoteCheck]
    approvals: int
    needed: int
    weights: list[WeightCheck]
    weight: float


def trace(signals: Mapping[str, float | None], config: FilterConfig, *, correction: bool) -> Trace:
    """Ask every rule, also those behind the first that fails; the same code decides as in ``filters.passing``."""
    row = Columns(["row"], np.array([correction]), {name: np.array([_nan(value)]) for name, value in signals.items()})
    votes = [
        VoteCheck(
            signal=vote.signal, group=vote.of_group, value=signals.get(vote.signal),
            bound=f"> {vote.above:g}" if vote.above is not None else f"< {vote.below:g}",
            approves=bool(approves(row.get(vote.signal), row.correction, vote)[0]),
        )
        for vote in config.votes.of
    ]  # fmt: skip
    failed = [reason for reason, passes in outcomes(row, config) if not passes[0]] if config.enabled else []
    terms = config.weights.of if config.weights else ()
    return Trace(
        reason=failed[0] if failed else None,
        rules=[_rule(row, rule, config) for rule in config.rules],
        votes=votes,
        approvals=len({vote.group for vote in votes if vote.approves}),
        needed=math.ceil(number(config.votes.k, config)),
        weights=[
            WeightCheck(
                signal=term.signal, value=signals.get(term.signal), factor=float(ramp(row.get(term.signal), term)[0])
            )
            for term in terms
        ],
        weight=float(weigh(row, config.weights)[0]),
    )


def _rule(row: Columns, rule: FilterRule, config: FilterConfig) -> RuleCheck:
    value = float(row.get(rule.signal)[0])
    about = bool(concerns(rule, row.correction)[0])
    missing = f"not measured, so it {'passes' if rule.missing == 'pass' else 'fails'}"
    return RuleCheck(
        reason=rule.reason,
        signal=rule.signal,
        value=None if math.isnan(value) else value,
        bound=bound_text(rule, config),
        passed=bool(meets(row.get(rule.signal), rule, config)[0]) if about else None,
        note=f"only for {rule.for_}" if not about else missing if math.isnan(value) else "",
    )


def bound_text(rule: FilterRule, config: FilterConfig) -> str:
    """A rule's condition as a person reads it, with the number behind a threshold's name."""
    low, high = limits(rule, config)
    if math.isfinite(low) and math.isfinite(high):
        return f"= {low:g}" if rule.equals is not None else f"in [{low:g}, {high:g}]"
    sign, bound, stated = (">=", low, rule.at_least) if math.isfinite(low) else ("<=", high, rule.at_most)
    return f"{sign} {bound:g}" + (f" ({stated})" if isinstance(stated, str) else "")


def _nan(value: float | None) -> float:
    return math.nan if value is None else float(value)
