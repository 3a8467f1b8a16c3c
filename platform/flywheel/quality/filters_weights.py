"""Loss weights of kept rows: a doubtful row is quietened instead of cut where that loses less.

A hard cut throws a right row away for every wrong one near the bound; a weight that follows the signal keeps what
the row still says. It reaches the loss as ``Example.weight``: the step's loss is ``sum(w * ce) / sum(w)``, so only
the weights' ratios matter.
"""

from __future__ import annotations

import numpy as np

from flywheel.config.filters import Weights, WeightTerm
from flywheel.quality.filters import Columns, Floats

DIGITS = 4
"""Weights are rounded, so that a rerun on another machine gives the same examples."""


def weigh(rows: Columns, weights: Weights | None) -> Floats:
    """The weight of each row, ``[n]``; 1 everywhere without ``weights``."""
    if weights is None:
        return np.ones(len(rows.ids))
    product = np.ones(len(rows.ids))
    for term in weights.of:
        product *= ramp(rows.get(term.signal), term)
    return np.round(np.clip(product, weights.least, weights.most), DIGITS)


def ramp(values: Floats, term: WeightTerm) -> Floats:
    """0 at ``zero_at``, 1 at ``one_at``, straight in between, clipped outside, ``missing`` where not measured."""
    place = np.clip((values - term.zero_at) / (term.one_at - term.zero_at), 0.0, 1.0)
    return np.where(np.isnan(values), term.missing, place)
