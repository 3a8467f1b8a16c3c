"""What would another policy have earned? Off-policy evaluation of single choices from logged chances. Pure, numpy.

A row is one decision: something was served with a known chance p, and an outcome r followed. A target policy would have
served the same thing with chance t. With w = t / p and the mean over rows:

========  =====================================================  ===================================================
ips       mean of w r                                            Horvitz and Thompson, JASA 47 (1952); unbiased
snips     sum of w r / sum of w                                  Hajek 1971; Swaminathan and Joachims, NeurIPS 2015
dm        mean of q(target)                                      a model's word; as wrong as the model is
dr        mean of q(target) + w (r - q(served))                  Dudik, Langford and Li, ICML 2011
sndr      mean of q(target) + sum of w (r - q(served)) / sum w   Thomas and Brunskill, ICML 2016 (WDR, one step)
========  =====================================================  ===================================================

q(served) predicts the outcome of what was served, q(target) is the mean prediction over what the target would serve.
Predictions of a row must not have seen the outcomes of its unit (``offpolicy_model.cross_fitted``); then ips and dr are
unbiased for any model, and the others up to order 1 / n. ``dm`` has no interval: its error is not chance.

Large weights can be limited (``limited``): clipped (Ionides 2008) or, for dr and sndr, switched to the model (Wang,
Agarwal and Dudik, ICML 2017). That trades spread for bias, and the interval is widened by all that the bias could be.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from flywheel.statistics.offpolicy_overlap import Limits, Refusal, overlap
from flywheel.statistics.offpolicy_units import Bounds, Units, Valuation, conclude
from flywheel.statistics.units import Floats, Labels, vector

Estimator = Literal["ips", "snips", "dr", "sndr"]
ESTIMATORS: tuple[Estimator, ...] = get_args(Estimator)
MODELLED = frozenset({"dr", "sndr"})


@dataclass(frozen=True)
class Decisions:
    """Logged decisions seen by a target policy; all arrays have one number a row.

    Attributes:
        weights: chance of what was served under the target over its logged chance, 0 or more.
        rewards: what followed, between ``low`` and ``high``.
        units: label of the independent unit of each row; None: each row is one.
        served: predicted outcome of what was served.
        expected: predicted outcome under the target.
        moments: mean square and mean cube of the weight over all that might have been served, where they are known:
            the sums of t^2 / p and t^3 / p^2. They tell poor overlap before a large weight is drawn.
        unsupported: share of the target's choices with no logged chance, a number a row.
        low: the smallest possible outcome.
        high: the largest.
        uncut: the weights before large ones were limited (``limited``).
    """

    weights: Floats
    rewards: Floats
    units: Labels | None = None
    served: Floats | None = None
    expected: Floats | None = None
    moments: tuple[Floats, Floats] | None = None
    unsupported: Floats | None = None
    low: float = 0.0
    high: float = 1.0
    uncut: Floats | None = None

    def __post_init__(self) -> None:
        """Refuse what are no decisions.

        Raises:
            ValueError: lengths differ, NaN, a negative or infinite weight, or an outcome that is out of range.
        """
        weights, rewards = vector(self.weights), vector(self.rewards)
        for name in ("rewards", "served", "expected", "unsupported"):
            column = getattr(self, name)
            if column is not None and vector(column).shape != weights.shape:
                raise ValueError(f"{np.shape(column)} {name} for {weights.size} weights")
        if weights.size and not (weights.min() >= 0 and np.isfinite(weights).all()):
            raise ValueError("weights must be finite and not negative; a logged chance is 0, or a row is of no draw")
        if rewards.size and not (self.low <= rewards.min() and rewards.max() <= self.high):
            raise ValueError(
                f"outcomes lie in [{rewards.min():g}, {rewards.max():g}], not in [{self.low:g}, {self.high:g}]"
            )


def moments(target: Floats, logged: Floats) -> tuple[Floats, Floats]:
    """Mean square and mean cube of the weight of each row, from the chances of all that might be served.

    Args:
        target: (rows, choices) chances under the target.
        logged: the same under the logged policy.
    """
    ratio = np.divide(target, logged, out=np.zeros_like(target), where=logged > 0)
    return (ratio * target).sum(axis=1), (ratio**2 * target).sum(axis=1)


def limited(log: Decisions, most: float, *, how: Literal["clip", "switch"] = "clip") -> Decisions:
    """The same with weights above ``most`` cut to it, or (switch) set to 0, which leaves those rows to the model."""
    kept = np.minimum(log.weights, most) if how == "clip" else np.where(log.weights <= most, log.weights, 0.0)
    whole = log.weights if log.uncut is None else log.uncut
    return replace(log, weights=kept, uncut=whole, moments=None)


def linearised(estimator: Estimator, log: Decisions, units: Units) -> Floats:
    """One number a unit, whose mean is the estimate (see ``offpolicy_units``).

    Raises:
        ValueError: the estimator needs predictions and there are none.
    """
    if estimator == "ips":
        return units.mean(log.weights * log.rewards)
    if estimator == "snips":
        return units.ratio(log.weights * log.rewards, log.weights)
    if log.served is None or log.expected is None:
        raise ValueError(f"{estimator} needs predictions of a reward model: give `served` and `expected`")
    rest = log.weights * (log.rewards - log.served)
    if estimator == "dr":
        return units.mean(log.expected + rest)
    return units.mean(log.expected) + units.ratio(rest, log.weights)


def direct(log: Decisions) -> float:
    """What the reward model says (dm): no interval, because chance is not what it would miss by.

    Raises:
        ValueError: there are no predictions.
    """
    if log.expected is None:
        raise ValueError("dm needs predictions of a reward model: give `expected`")
    return float(log.expected.mean())


def evaluate(
    estimator: Estimator, log: Decisions, *, confidence: float = 0.95, limits: Limits | None = None
) -> Valuation:
    """Value of the target policy and its gain over the logged one, or why neither is known.

    Args:
        estimator: one of ``ESTIMATORS``.
        log: the rows.
        confidence: of the two-sided intervals, in (0, 1).
        limits: where to refuse; default: ``Limits()``.

    Raises:
        ValueError: no predictions for an estimator that needs them, or ``confidence`` is out of range.
    """
    if log.weights.size == 0:
        return nothing(estimator)
    units = Units.of(log.units, log.weights.size)
    missing = 0.0 if log.unsupported is None else float(log.unsupported.mean())
    found = overlap(
        log.weights,
        units.sums(log.weights),
        units.sizes,
        moments=log.moments,
        unsupported=missing,
        uncut=None if log.uncut is None else units.sums(log.uncut),
    )
    lost = missing + (0.0 if log.uncut is None else float((log.uncut - log.weights).mean()))
    possible: Estimator = estimator if log.weights.any() else "ips"  # refused below: it divides by the weights
    return conclude(
        estimator,
        linearised(possible, log, units),
        units.mean(log.rewards),
        found,
        bounds=_bounds(estimator, log, lost),
        limits=limits or Limits(),
        confidence=confidence,
    )


def nothing(estimator: str) -> Valuation:
    """Of no rows."""
    empty = overlap(np.zeros(1), np.zeros(1), np.ones(1))
    none = replace(empty, rows=0, units=0, max_share=0.0)
    reason = Refusal("no_rows", "no row is left to evaluate on; see what was left out and why")
    return Valuation(estimator, None, None, none, 0.0, (reason,))


def _bounds(estimator: Estimator, log: Decisions, lost: float) -> Bounds:
    """How far ``lost`` weight, whose outcomes nobody saw, can move the truth away from what is estimated."""
    wide = log.high - log.low
    if estimator == "ips":
        down, up = lost * max(-log.low, 0.0), lost * max(log.high, 0.0)
    elif estimator == "snips":
        down, up = lost * wide, lost * wide
    else:
        factor = lost if estimator == "dr" else 2 * lost
        down, up = factor * wide, factor * wide
    return Bounds(log.low, log.high, down, up)
