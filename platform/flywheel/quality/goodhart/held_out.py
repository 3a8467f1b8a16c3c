"""Which signals rows are chosen by, found by asking the rules themselves and not by reading their declarations."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from flywheel.config import FilterConfig
from flywheel.quality.filters import Columns, passing

CANDIDATES_BY = frozenset({"explicit", "engagement"})
"""Whatever the filter: answers that people said they like, or used, become candidates and the reward model's examples
(``quality.candidates.liked``)."""
MADE_BY_REWARD = frozenset({"preference", "reward_margin", "reward_wins", "liked_percentile", "rater_trust"})
"""The reward model's own word, or made of it: what it learnt from is optimised in them."""


def reads(rows: Columns, config: FilterConfig) -> set[str]:
    """Signals on which the filter's verdict about any of these rows depends.

    Each is replaced, for all rows, by "not measured", by its least and by its largest value; if any verdict changes the
    filter reads it. A threshold that no value can fail reads nothing, and needs no list that could be forgotten.
    """
    verdict = passing(rows, config)
    return {
        name
        for name, values in rows.signals.items()
        if any(bool((passing(_with(rows, name, value), config) != verdict).any()) for value in _extremes(values))
    }


def optimised(rows: Columns, config: FilterConfig) -> set[str]:
    """All proxies: what candidates and reward models are made by, and what the filter reads."""
    known = set(rows.signals)
    return reads(rows, config) | (CANDIDATES_BY & known) | (MADE_BY_REWARD & known)


def used_by(held_out: str, rows: Columns, filters: Mapping[str, FilterConfig], reward: str | None) -> list[str]:
    """Who used a signal that nobody may use.

    Args:
        held_out: its name.
        rows: signals of real candidates.
        filters: manifests that name a filter (of a dataset, of a sweep) -> that filter.
        reward: the manifest of the reward models, where there are any.
    """
    found = [ref for ref, config in sorted(filters.items()) if held_out in reads(rows, config)]
    if held_out in CANDIDATES_BY:
        found.append("the choice of candidates")
    if held_out in MADE_BY_REWARD or (held_out in CANDIDATES_BY and reward):
        found.append(reward or "reward training")
    return found


def _with(rows: Columns, name: str, value: float) -> Columns:
    return Columns(rows.ids, rows.correction, {**rows.signals, name: np.full(len(rows.ids), value)})


def _extremes(values: NDArray[np.float64]) -> list[float]:
    known = values[~np.isnan(values)]
    return [float("nan"), float(known.min()), float(known.max())] if known.size else []
