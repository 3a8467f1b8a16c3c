"""Caps by count: how many rows of one actor may rest on nothing but this actor's word."""

from __future__ import annotations

import numpy as np

from flywheel.quality.trust.statements import Bools, Floats, Ints


def over_cap(actor: Ints, capped: Bools, cap: int, order: Floats | Ints) -> Bools:
    """Which of the ``capped`` rows are beyond the first ``cap`` of their actor, by ``order``.

    A count, not a share: four percent of a large flow from one account is still ``cap`` rows.
    """
    rows = np.flatnonzero(capped)
    rows = rows[np.lexsort((order[rows], actor[rows]))]
    over = np.zeros(len(actor), dtype=bool)
    over[rows[rank(actor[rows]) >= cap]] = True
    return over


def rank(groups: Ints) -> Ints:
    """Place of each row within its group, for rows sorted by group."""
    if not len(groups):
        return np.zeros(0, dtype=np.int64)
    starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
    return np.arange(len(groups)) - np.repeat(starts, np.diff(np.r_[starts, len(groups)]))
