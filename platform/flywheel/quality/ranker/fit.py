"""One head: how likely an action is once an item is looked at, from items of which nobody knows whether they were.

An action happens with probability ``looks(place) * sigmoid(x w)``, and ``looks`` is known, so the likelihood of the
logged actions is maximised as it is (regression EM, Wang et al., "Position bias estimation for unbiased learning to
rank", WSDM 2018, finds the same maximum by steps). That asks for no division by small shares, as inverse propensity
weighting of the clicks would. With looks of 1 everywhere it is logistic regression. A normal prior stands for what is
not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import expit

from flywheel.inference.item_features import Encoded, ItemFeatures
from flywheel.statistics.place_chances import Floats

ITERATIONS = 200


@dataclass(frozen=True)
class Head:
    """Coefficients: ``dense`` (width + 1) with the intercept last, ``hashed`` (buckets)."""

    dense: Floats
    hashed: Floats


def design(features: ItemFeatures, encoded: Encoded) -> Any:
    """Sparse (rows, width + 1 + buckets): dense columns, a one for the intercept, hashed columns."""
    rows = len(encoded.dense)
    dense = sparse.csr_array(np.column_stack([encoded.dense, np.ones(rows)]))
    place = (encoded.value, (encoded.owner, encoded.bucket))
    return sparse.hstack([dense, sparse.csr_array(place, shape=(rows, features.buckets))]).tocsr()


def fit_head(
    table: Any,
    happened: npt.NDArray[np.bool_],
    looks: Floats,
    weights: Floats,
    *,
    width: int,
    prior_scale: float,
) -> Head:
    """The most likely coefficients. The intercept (column ``width``) has no prior.

    Args:
        table: see ``design``.
        happened: whether the action did.
        looks: chance that the row was looked at, in (0, 1].
        weights: of the rows.
        width: dense columns before the intercept.
        prior_scale: standard deviation of the others' prior.
    """
    used = np.flatnonzero(np.bincount(table.indices, minlength=table.shape[1]))
    packed = table[:, used].tocsr()
    turned = packed.T.tocsr()
    precision = np.where(used == width, 0.0, prior_scale**-2)
    rate = np.clip((weights * happened).sum() / (weights * looks).sum(), 1e-6, 1 - 1e-6)
    start = np.where(used == width, np.log(rate / (1 - rate)), 0.0)

    def loss(found: Floats) -> tuple[float, Floats]:
        liked = expit(packed @ found)
        missed = np.maximum(1 - looks * liked, 1e-12)
        likely = np.where(happened, np.log(np.maximum(liked, 1e-300)), np.log(missed))
        slope = np.where(happened, 1 - liked, -looks * liked * (1 - liked) / missed)
        value = -(weights * likely).sum() + 0.5 * (precision * found**2).sum()
        return float(value), -(turned @ (weights * slope)) + precision * found

    best = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS})
    whole = np.zeros(table.shape[1])
    whole[used] = best.x
    return Head(whole[: width + 1], whole[width + 1 :])
