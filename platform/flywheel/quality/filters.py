"""Which rows are kept: pure rules over signals, the same for one row and for columns of many.

Each rule gives the rows that pass; the first rule that fails is the reason. The sweep calls ``passing`` with
hundreds of configurations on the same columns, curation asks ``verdicts`` for the reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flywheel.config import FilterConfig
from flywheel.quality.rows import Candidate, Drop, Keep

Bools = NDArray[np.bool_]
SupportRule = tuple[str, float]

APPROVALS: tuple[SupportRule, ...] = (
    ("explicit", 0.0), ("engagement", 0.5), ("agreement", 0.5), ("preference", 0.5), ("rater_trust", 0.5),
)  # fmt: skip
"""Signals that vote, each approving above its bar: what people said, what they did, what others say about
such prompts, what the reward model learnt, and the rater's record."""


@dataclass(frozen=True)
class Columns:
    """Signals of n rows as arrays; NaN means not measured."""

    ids: list[str]
    correction: Bools
    signals: Mapping[str, NDArray[np.float64]]

    @staticmethod
    def of(rows: Sequence[Candidate], signals: Mapping[str, Mapping[str, float | None]]) -> Columns:
        """Arrange ``{inference_id: {signal: value}}`` in the order of the rows."""
        names = sorted({name for values in signals.values() for name in values})
        table = {
            name: np.array([_number(signals.get(row.inference_id, {}).get(name)) for row in rows]) for name in names
        }
        correction = np.array([row.origin == "correction" for row in rows], dtype=bool)
        return Columns([row.inference_id for row in rows], correction, table)

    def get(self, name: str) -> NDArray[np.float64]:
        """A signal's column; all NaN where it was never measured."""
        found = self.signals.get(name)
        return np.full(len(self.ids), np.nan) if found is None else found


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _at_least(values: NDArray[np.float64], bound: float) -> Bools:
    return np.isnan(values) | (values >= bound)


def _format(rows: Columns, config: FilterConfig) -> Bools:
    return _at_least(rows.get("format"), 1.0 if config.require_format else 0.0)


def _distance(rows: Columns, config: FilterConfig) -> Bools:
    return _at_least(-rows.get("correction_distance"), -config.max_correction_distance)


def _trust(rows: Columns, config: FilterConfig) -> Bools:
    return _at_least(rows.get("rater_trust"), config.min_rater_trust)


def _agreement(rows: Columns, config: FilterConfig) -> Bools:
    return _at_least(rows.get("agreement"), config.min_agreement)


def _preference(rows: Columns, config: FilterConfig) -> Bools:
    return _at_least(rows.get("preference"), config.min_preference)


def _margin(rows: Columns, config: FilterConfig) -> Bools:
    return ~rows.correction | _at_least(rows.get("reward_margin"), config.min_reward_margin)


def _liked(rows: Columns, config: FilterConfig) -> Bools:
    return rows.correction | _at_least(rows.get("liked_percentile"), config.min_liked_reward)


def _votes(rows: Columns, config: FilterConfig) -> Bools:
    return votes(rows) >= config.min_votes


def votes(rows: Columns) -> NDArray[np.int64]:
    """How many of ``APPROVALS`` approve each row. A correction is itself a statement, and counts as one."""
    approved = np.zeros(len(rows.ids), dtype=np.int64)
    for name, bar in APPROVALS:
        said = rows.get(name) > bar
        approved += said | rows.correction if name == "explicit" else said
    return approved


RULES: dict[str, Callable[[Columns, FilterConfig], Bools]] = {
    "unusual_format": _format,
    "correction_too_far": _distance,
    "untrusted_rater": _trust,
    "others_disagree": _agreement,
    "low_preference": _preference,
    "low_reward_margin": _margin,
    "low_reward": _liked,
    "too_few_votes": _votes,
}
"""Reason -> rows that pass, in the order in which reasons are given."""


def passing(rows: Columns, config: FilterConfig) -> Bools:
    """Rows that every rule lets through; all of them where the filter is off."""
    passed = np.ones(len(rows.ids), dtype=bool)
    if config.enabled:
        for rule in RULES.values():
            passed &= rule(rows, config)
    return passed


def verdicts(rows: Columns, config: FilterConfig) -> list[Keep | Drop]:
    """One verdict a row, with the first rule that failed."""
    reasons: list[str | None] = [None] * len(rows.ids)
    if config.enabled:
        for reason, rule in RULES.items():
            for index in np.flatnonzero(~rule(rows, config)):
                reasons[index] = reasons[index] or reason
    return [
        Keep(inference_id=row) if reason is None else Drop(inference_id=row, reason=reason)
        for row, reason in zip(rows.ids, reasons, strict=True)
    ]
