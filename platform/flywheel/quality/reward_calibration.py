"""How far a reward's log-odds can be believed: slope, intercept, temperature, expected calibration error. Pure.

A reward model says that answer a beats b with probability sigmoid(r_a - r_b). The calibration slope and intercept are
those of a logistic regression of what people preferred on that margin (Cox, "Two further applications of a model for
binary regression", Biometrika 45, 1958): slope 1 and intercept 0 are right, a slope below 1 is overconfidence.
Dividing rewards by the temperature 1 / slope corrects it (Platt 1999; Guo et al., "On calibration of modern neural
networks", ICML 2017). Intervals are Wald's with errors that allow for equal prompts (Liang and Zeger, Biometrika 73,
1986), with t quantiles of the number of prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from scipy import special, stats  # pyright: ignore[reportMissingTypeStubs]

from flywheel.records import Record
from flywheel.text.hashing import unit_interval

Floats = npt.NDArray[np.float64]
BINS = 10
MIN_PAIRS = 20
"""With fewer pairs nothing is fitted: the temperature stays 1 and the intervals are open."""
_RIDGE = 1e-3  # keeps the slope finite where a model ranks every pair right
_STEPS = 60


class Interval(Record):
    """A number and the interval it may be in; None: open on that side."""

    value: float
    low: float | None = None
    high: float | None = None

    def contains(self, point: float) -> bool:
        """Whether ``point`` is inside; an open side holds everything."""
        return (self.low is None or self.low <= point) and (self.high is None or point <= self.high)


class Calibration(Record):
    """Of held-out pairs: what the margins were worth, and the temperature that corrects them."""

    pairs: int
    temperature: float = 1.0
    slope: Interval
    intercept: Interval
    error: float | None = None
    """Expected calibration error of the probabilities, in [0, 1]."""


def calibrate(
    margins: npt.ArrayLike, *, wins: npt.ArrayLike | None = None, clusters: Sequence[str], confidence: float = 0.95
) -> Calibration:
    """Calibration of pairs.

    Args:
        margins: n rewards of the preferred answer minus that of the other, log-odds.
        wins: n shares of votes for the "preferred" one; default: all 1.
        clusters: n prompts; pairs of one prompt are not independent.
        confidence: of the intervals.

    Which answer of a pair comes first says nothing, so it is drawn by hash of prompt and place; without that the
    intercept would see only wins.
    """
    x = np.asarray(margins, dtype=np.float64)
    y = np.ones_like(x) if wins is None else np.asarray(wins, dtype=np.float64)
    if x.size < MIN_PAIRS or not np.isfinite(x).all() or not x.any():
        return Calibration(pairs=int(x.size), slope=Interval(value=1.0), intercept=Interval(value=0.0))
    first = np.array([unit_interval("side", str(place), prompt) < 0.5 for place, prompt in enumerate(clusters)])
    x, y = np.where(first, x, -x), np.where(first, y, 1 - y)
    weights, covariance = _logistic(np.column_stack([x, np.ones_like(x)]), y, clusters)
    units = len(set(clusters))
    quantile = float(cast("Any", stats).t.ppf((1 + confidence) / 2, max(1, units - 2)))
    spread = quantile * np.sqrt(np.diag(covariance))
    found = [
        Interval(value=round(float(w), 4), low=round(float(w - s), 4), high=round(float(w + s), 4))
        for w, s in zip(weights, spread, strict=True)
    ]
    return Calibration(
        pairs=int(x.size),
        temperature=temperature(x, y),
        slope=found[0],
        intercept=found[1],
        error=round(expected_error(special.expit(x), y), 4),
    )


def temperature(margins: npt.ArrayLike, wins: npt.ArrayLike | None = None) -> float:
    """What rewards are to be divided by so that their log-odds fit; 1 where the margins say nothing, at most 100."""
    x = np.asarray(margins, dtype=np.float64)
    y = np.ones_like(x) if wins is None else np.asarray(wins, dtype=np.float64)
    if x.size < MIN_PAIRS or not np.isfinite(x).all() or not x.any():
        return 1.0
    slope = float(_logistic(x[:, None], y, None)[0][0])
    return round(1 / slope, 6) if slope > 0.01 else 100.0


def cross_fitted(margins: npt.ArrayLike, folds: Sequence[int]) -> Floats:
    """Margins over the temperature that the *other* folds teach: what calibration is worth on unseen pairs."""
    x, own = np.asarray(margins, dtype=np.float64), np.asarray(folds)
    scaled = x.copy()
    for fold in np.unique(own):
        scaled[own == fold] /= temperature(x[own != fold])
    return scaled


def expected_error(chances: npt.ArrayLike, wins: npt.ArrayLike, bins: int = BINS) -> float:
    """Mean distance of probability and frequency over bins of equal size (Naeini et al., AAAI 2015)."""
    p, y = np.asarray(chances, dtype=np.float64), np.asarray(wins, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    parts = [part for part in np.array_split(order, min(bins, p.size)) if part.size]
    return float(sum(abs(p[part].mean() - y[part].mean()) * part.size for part in parts) / p.size)


def _logistic(x: Floats, y: Floats, clusters: Sequence[str] | None) -> tuple[Floats, Floats]:
    """Weights by Newton's method from zero with halved steps, and their sandwich covariance."""
    weights = np.zeros(x.shape[1])

    def loss(at: Floats) -> float:
        logits = x @ at
        return float((np.logaddexp(0, logits) - y * logits).sum() + _RIDGE * (at @ at) / 2)

    for _ in range(_STEPS):
        chance = special.expit(x @ weights)
        gradient = x.T @ (chance - y) + _RIDGE * weights
        step = np.linalg.solve(_information(x, chance), gradient)
        size = 1.0
        while loss(weights - size * step) > loss(weights) and size > 1e-6:
            size /= 2
        weights = weights - size * step
        if np.abs(size * step).max() < 1e-10:
            break
    chance = special.expit(x @ weights)
    inverse = np.linalg.inv(_information(x, chance))
    scores = x * (y - chance)[:, None]
    if clusters is not None:
        _, place = np.unique(np.asarray(clusters), return_inverse=True)
        summed = np.zeros((int(place.max()) + 1, x.shape[1]))
        np.add.at(summed, place, scores)
        scores = summed * np.sqrt(len(summed) / max(1, len(summed) - 1))
    return weights, inverse @ (scores.T @ scores) @ inverse


def _information(x: Floats, chance: Floats) -> Floats:
    return (x * (chance * (1 - chance))[:, None]).T @ x + _RIDGE * np.eye(x.shape[1])
