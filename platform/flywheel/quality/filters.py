"""Which rows are kept: the rules of a filter, evaluated over columns of many rows at once.

The first rule that a row fails is its reason. The sweep calls ``passing`` with hundreds of configurations on the
same columns, curation asks ``verdicts`` for the reasons, ``filters_trace`` explains single rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flywheel.config import FilterConfig
from flywheel.config.filters import DEFAULT_VOTES, FilterRule, Vote, Votes
from flywheel.quality.rows import Candidate, Drop, Keep

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

KEPT = -1
"""Code of a row that no rule drops; see ``first_failures``."""


@dataclass(frozen=True)
class Columns:
    """Signals of n rows as arrays; NaN means not measured."""

    ids: list[str]
    correction: Bools
    signals: Mapping[str, Floats]

    @staticmethod
    def of(rows: Sequence[Candidate], signals: Mapping[str, Mapping[str, float | None]]) -> Columns:
        """Arrange ``{inference_id: {signal: value}}`` in the order of the rows."""
        names = sorted({name for values in signals.values() for name in values})
        own = [signals.get(row.inference_id, {}) for row in rows]
        table = {name: np.array([_number(values.get(name)) for values in own], dtype=np.float64) for name in names}
        correction = np.array([row.origin == "correction" for row in rows], dtype=bool)
        return Columns([row.inference_id for row in rows], correction, table)

    def get(self, name: str) -> Floats:
        """A signal's column; all NaN where it was never measured."""
        found = self.signals.get(name)
        return np.full(len(self.ids), np.nan) if found is None else found


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def number(bound: float | str, config: FilterConfig) -> float:
    """A bound's value under a configuration: itself, or the threshold that it names."""
    return float(getattr(config, bound) if isinstance(bound, str) else bound)


def meets(values: Floats, rule: FilterRule, config: FilterConfig) -> Bools:
    """Which values meet a rule's condition; one that was not measured does as ``missing`` says.

    A comparison with NaN is false, so the rule asks which values *break* the condition.
    """
    low, high = limits(rule, config)
    broken = values < low if low > -np.inf else values > high
    if low > -np.inf and high < np.inf:
        broken |= values > high
    if rule.missing == "fail":
        broken |= np.isnan(values)
    return ~broken


def limits(rule: FilterRule, config: FilterConfig) -> tuple[float, float]:
    """Lowest and highest value that meets the rule, both included; infinite where there is no such end."""
    if rule.between is not None:
        return number(rule.between[0], config), number(rule.between[1], config)
    low = rule.at_least if rule.at_least is not None else rule.equals
    high = rule.at_most if rule.at_most is not None else rule.equals
    return number(-np.inf if low is None else low, config), number(np.inf if high is None else high, config)


def concerns(rule: FilterRule, correction: Bools) -> Bools:
    """Which rows a rule is about."""
    if rule.for_ == "all":
        return np.ones_like(correction)
    return correction if rule.for_ == "corrections" else ~correction


def outcomes(rows: Columns, config: FilterConfig) -> Iterator[tuple[str, Bools]]:
    """(reason, rows that pass) of each rule in the order of the rules, the votes last. Lazy: one array at a time."""
    for rule in config.rules:
        if rule.signal not in rows.signals and rule.missing == "pass":
            yield rule.reason, np.ones(len(rows.ids), dtype=bool)
            continue
        met = meets(rows.get(rule.signal), rule, config)
        yield rule.reason, met if rule.for_ == "all" else met | ~concerns(rule, rows.correction)
    yield config.votes.reason, votes(rows, config.votes) >= number(config.votes.k, config)


def approves(values: Floats, correction: Bools, vote: Vote) -> Bools:
    """Which rows a signal approves of."""
    below = -np.inf if vote.below is None else vote.below
    said = values > vote.above if vote.above is not None else values < below
    return said | correction if vote.corrections == "approve" else said


def votes(rows: Columns, wanted: Votes = DEFAULT_VOTES) -> NDArray[np.int64]:
    """How many groups of signals approve each row; a group has one vote however many of its signals approve."""
    approved = np.zeros(len(rows.ids), dtype=np.int64)
    for group in wanted.groups:
        any_of = np.zeros(len(rows.ids), dtype=bool)
        for vote in wanted.of:
            if vote.of_group == group:
                any_of |= approves(rows.get(vote.signal), rows.correction, vote)
        approved += any_of
    return approved


def passing(rows: Columns, config: FilterConfig) -> Bools:
    """Rows that every rule lets through; all of them where the filter is off."""
    passed = np.ones(len(rows.ids), dtype=bool)
    if config.enabled:
        for _, passes in outcomes(rows, config):
            passed &= passes
    return passed


def first_failures(rows: Columns, config: FilterConfig) -> tuple[NDArray[np.int16], list[str]]:
    """For each row the place of the first rule that it fails, ``KEPT`` for none; and the reasons by place."""
    codes = np.full(len(rows.ids), KEPT, dtype=np.int16)
    reasons: list[str] = []
    if config.enabled:
        for reason, passes in outcomes(rows, config):
            codes[~passes & (codes == KEPT)] = len(reasons)
            reasons.append(reason)
    return codes, reasons


def verdicts(rows: Columns, config: FilterConfig) -> list[Keep | Drop]:
    """One verdict a row, with the first rule that failed."""
    codes, reasons = first_failures(rows, config)
    return [
        Keep(inference_id=row) if code == KEPT else Drop(inference_id=row, reason=reasons[code])
        for row, code in zip(rows.ids, codes.tolist(), strict=True)
    ]
