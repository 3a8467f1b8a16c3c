"""A reward model for doubly robust estimates: ridge regression, cross-fitted over units. Pure.

Chernozhukov et al., "Double/debiased machine learning", Econometrics Journal 21 (2018), section 3: a unit's prediction
comes from a model that saw none of its rows, so that the model's errors are independent of the outcomes they are
compared with. A linear model will do: the estimate is right whatever the model is, and only its spread depends on it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flywheel.statistics.offpolicy_units import Units
from flywheel.statistics.units import Floats, Labels, vector

FOLDS = 5
RIDGE = 1.0
"""Added to the diagonal, in rows, of standardised features."""


def cross_fitted(
    features: Floats,
    rewards: npt.ArrayLike,
    wanted: Floats,
    *,
    units: Labels | None = None,
    folds: int = FOLDS,
    seed: int = 0,
) -> Floats:
    """Predicted outcomes of every candidate of every row.

    Args:
        features: (rows, d) of what was served.
        rewards: (rows,) what followed.
        wanted: (rows, candidates, d) of all that might have been served; NaN is passed on.
        units: label of each row's unit; a unit is in one fold.
        folds: models, at least 2.
        seed: of the folds.

    Returns:
        (rows, candidates), within the outcomes that its model saw.

    Raises:
        ValueError: shapes differ, or there are fewer than two units.
    """
    outcomes = vector(rewards)
    if features.shape[:1] != outcomes.shape or wanted.shape[::2] != features.shape:
        raise ValueError(f"features of shape {features.shape}, wanted {wanted.shape}, for {outcomes.size} outcomes")
    found = Units.of(units, outcomes.size)
    if found.sizes.size < 2:
        raise ValueError("one unit: nothing could be predicted from others")
    count = max(2, min(folds, found.sizes.size))
    fold = np.random.default_rng(seed).permutation(found.sizes.size)[found.codes] % count
    middle, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    served = np.column_stack([np.ones(outcomes.size), (features - middle) / scale])
    predicted = np.empty(wanted.shape[:2])
    for one in range(count):
        own = fold == one
        others = outcomes[~own]
        weights = _ridge(served[~own], others)
        guess = weights[0] + ((wanted[own] - middle) / scale) @ weights[1:]
        predicted[own] = np.clip(guess, others.min(), others.max())
    return predicted


def _ridge(rows: Floats, outcomes: Floats) -> Floats:
    penalty = np.full(rows.shape[1], RIDGE)
    penalty[0] = 0.0  # the mean is not shrunk
    return np.asarray(np.linalg.solve(rows.T @ rows + np.diag(penalty), rows.T @ outcomes), dtype=np.float64)
