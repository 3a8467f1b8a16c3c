"""The numbers of one period: audit, levels, how well each signal tells right from wrong, how signals go together."""

from __future__ import annotations

from collections.abc import Collection
from itertools import combinations
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from flywheel.quality.goodhart.inflation import inflation
from flywheel.quality.goodhart.tables import Audit, Of, PairRow, Role, Rows, SignalRow
from flywheel.statistics.concordance import auc, rank_correlation

MOST_ROWS = 20_000
"""Rows of a period that pairs of signals are correlated on; a random sample of more."""


def audit_of(rows: Rows) -> Audit:
    """Each person's first labelled row: people are the independent unit, and rows of one person are alike."""
    labelled = rows.pick(~np.isnan(rows.truth))
    _, first = np.unique(labelled.people, return_index=True)
    return Audit(people=len(first), wrong=int((labelled.truth[first] == 0).sum()))


def signal_row(
    name: str,
    of: Of,
    role: Role,
    now: Rows,
    before: Rows,
    *,
    reference: Rows | None,
    sign: int,
    least: int,
    confidence: float,
) -> SignalRow:
    """One line of the table. ``sign`` is -1 where more means worse; ``least`` people on each side make a test.

    ``reference``: answers that tell what a reaction meant at the beginning.
    """
    values = now.signals[name]
    known = ~np.isnan(values)
    labelled = known & ~np.isnan(now.truth)
    area = auc(sign * values[labelled], now.truth[labelled] == 1, clusters=now.people[labelled], confidence=confidence)
    here, there = _by_person(now, name), _by_person(before, name)
    enough = min(here.size, there.size) >= least
    beyond = inflation(now, reference, name, sign=sign) if reference is not None and of == "answers" else None
    return SignalRow(
        signal=name,
        of=of,
        role=role,
        rows=int(known.sum()),
        labelled=int(labelled.sum()),
        auc=area and round(area.mean, 4),
        auc_low=area and round(area.low, 4),
        auc_high=area and round(area.high, 4),
        level=round(float(here.mean()), 4) if here.size else None,
        level_before=round(float(there.mean()), 4) if there.size else None,
        rise_p=p_greater(sign * here, sign * there) if enough else None,
        fall_p=p_greater(sign * there, sign * here) if enough else None,
        change=round(beyond.change, 4) if beyond else None,
        explained=round(beyond.explained, 4) if beyond else None,
        inflation_p=beyond.p_value if beyond else None,
    )


def pair_rows(rows: Rows, of: Of, names: Collection[str], confidence: float) -> list[PairRow]:
    """Every two signals that are measured on the same rows and vary."""
    if rows.people.size > MOST_ROWS:
        chosen = np.zeros(rows.people.size, dtype=bool)
        chosen[np.random.default_rng(0).choice(rows.people.size, MOST_ROWS, replace=False)] = True
        rows = rows.pick(chosen)
    found: list[PairRow] = []
    for a, b in combinations(sorted(names), 2):
        both = ~np.isnan(rows.signals[a]) & ~np.isnan(rows.signals[b])
        one = rank_correlation(
            rows.signals[a][both], rows.signals[b][both], clusters=rows.people[both], confidence=confidence
        )
        if one is not None:
            numbers = {"rho": round(one.mean, 4), "low": round(one.low, 4), "high": round(one.high, 4)}
            found.append(PairRow(a=a, b=b, of=of, rows=one.n, **numbers))
    return found


def p_greater(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """One-sided p-value that the mean of ``a`` is not above that of ``b``: Welch's t-test (Biometrika 34 (1947))."""
    if min(a.size, b.size) < 2 or (np.ptp(a) == 0 and np.ptp(b) == 0):
        return 1.0  # without any spread there is no telling what chance would do
    return float(cast("Any", stats).ttest_ind(a, b, equal_var=False, alternative="greater").pvalue)


def _by_person(rows: Rows, name: str) -> NDArray[np.float64]:
    """Each person's mean."""
    values = rows.signals[name]
    known = ~np.isnan(values)
    if not known.any():
        return np.zeros(0)
    _, codes = np.unique(rows.people[known], return_inverse=True)
    return np.bincount(codes, weights=values[known]) / np.bincount(codes)
