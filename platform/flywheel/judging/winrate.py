"""Win rates from judgements, raw and with the length of the answers taken out. Pure.

Length control after Dubois et al. 2024, "Length-Controlled AlpacaEval", section 3: a logistic regression of the
preference on the difference in length, tanh(difference / its standard deviation); the win rate is what the fit
says of answers of equal length. Their term for an item's difficulty is left out: it needs many models to be known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from flywheel.records import Judgement, Record
from flywheel.statistics.bootstrap import mean_interval

Floats = npt.NDArray[np.float64]
RIDGE: Final = 0.01
"""Weight of the penalty on both coefficients: finite where one side always wins, far below one row's information."""
_CREDIT: Final = {"left": 1.0, "tie": 0.5, "right": 0.0}
_STEPS: Final = 50
_CHUNK: Final = 2_000_000  # weights held at once


class WinRate(Record):
    """How often the left answer is preferred; a tie counts half, an abstention not at all.

    Rates and intervals are None where there is nothing, or only one subject, to compute them from. Answers that are
    all longer, or all shorter, leave open what equal ones would win: then ``controlled`` is None.
    """

    n: int
    wins: int
    losses: int
    ties: int
    abstained: int
    invalid: int
    raw: float | None
    raw_interval: tuple[float, float] | None
    controlled: float | None
    controlled_interval: tuple[float, float] | None
    length_effect: float | None
    longer: float | None


def win_rate(rows: Sequence[Judgement], *, resamples: int = 1_000, confidence: float = 0.95, seed: int = 0) -> WinRate:
    """Summarise judgements of one pair of versions, all turned the same way.

    Args:
        rows: judgements.
        resamples: of the bootstrap over subjects (items, where nobody is behind them).
        confidence: of both intervals.
        seed: of the resampling.

    Returns:
        ``length_effect`` is the coefficient of tanh(length difference / its standard deviation), on the logit scale:
        above 0, longer answers are preferred. ``longer`` is the mean difference in characters, left minus right.
    """
    used = [row for row in rows if row.verdict != "abstain"]
    counts = {
        "wins": sum(row.verdict == "left" for row in used),
        "losses": sum(row.verdict == "right" for row in used),
        "ties": sum(row.verdict == "tie" for row in used),
        "abstained": len(rows) - len(used),
        "invalid": sum("invalid" in (row.forward, row.backward) for row in rows),
    }
    if not used:
        return WinRate(
            n=0, **counts, raw=None, raw_interval=None, controlled=None, controlled_interval=None,
            length_effect=None, longer=None,
        )  # fmt: skip
    credit = np.array([_CREDIT[row.verdict] for row in used])
    longer = np.array([row.left_length - row.right_length for row in used], dtype=np.float64)
    clusters = [row.subject or row.item_id for row in used]
    raw = mean_interval(credit, resamples=resamples, confidence=confidence, seed=seed, clusters=clusters)
    feature = length_feature(longer)
    overlap = longer.min() <= 0 <= longer.max()
    level, slope = (float(value) for value in fit(credit, feature, np.ones((1, len(used))))[0])
    return WinRate(
        n=len(used),
        **counts,
        raw=raw.mean,
        raw_interval=(raw.low, raw.high) if math.isfinite(raw.low) else None,
        controlled=float(_logistic(level)) if overlap else None,
        controlled_interval=_interval(
            credit, feature, clusters, near=(level, slope), resamples=resamples, confidence=confidence, seed=seed
        )
        if overlap
        else None,
        length_effect=slope,
        longer=float(longer.mean()),
    )


def length_feature(difference: Floats) -> Floats:
    """The difference as tanh of it over its standard deviation; zeros where there is no spread."""
    spread = float(difference.std())
    return np.tanh(difference / spread) if spread > 0 else np.zeros_like(difference)


def fit(
    credit: Floats, feature: Floats, weights: Floats, *, ridge: float = RIDGE, start: tuple[float, float] = (0.0, 0.0)
) -> Floats:
    """Logistic regressions of one data set under several weightings, by Newton's method, all at once.

    Args:
        credit: n preferences in [0, 1].
        feature: n length features.
        weights: (k, n), one weighting a row.
        ridge: weight of the penalty ridge/2 * (level^2 + slope^2).
        start: where the search begins.

    Returns:
        (k, 2): level and slope on the logit scale.
    """
    at = np.tile(np.array(start, dtype=np.float64), (len(weights), 1))
    for _ in range(_STEPS):
        expected = _logistic(at[:, :1] + at[:, 1:] * feature)
        residual = weights * (credit - expected)
        spread = weights * expected * (1 - expected)
        g0, g1 = residual.sum(1) - ridge * at[:, 0], residual @ feature - ridge * at[:, 1]
        h00, h01, h11 = spread.sum(1) + ridge, spread @ feature, spread @ feature**2 + ridge
        step = np.stack([h11 * g0 - h01 * g1, h00 * g1 - h01 * g0], axis=1) / (h00 * h11 - h01**2)[:, None]
        at += np.clip(step, -2, 2)  # far from the optimum a full step may leave the region where the curve is known
        if np.abs(step).max() < 1e-9:
            break
    return at


def _interval(
    credit: Floats,
    feature: Floats,
    clusters: Sequence[str],
    *,
    near: tuple[float, float],
    resamples: int,
    confidence: float,
    seed: int,
) -> tuple[float, float] | None:
    """Percentile bootstrap over clusters, refitting each resample."""
    number = {label: place for place, label in enumerate(dict.fromkeys(clusters))}
    if len(number) < 2:
        return None
    codes = np.array([number[label] for label in clusters])
    rng, levels = np.random.default_rng(seed), list[Floats]()
    share = np.full(len(number), 1 / len(number))
    step = max(1, _CHUNK // len(credit))
    for start in range(0, resamples, step):
        drawn = rng.multinomial(len(number), share, size=min(step, resamples - start))
        levels.append(fit(credit, feature, drawn[:, codes].astype(np.float64), start=near)[:, 0])
    tail = (1 - confidence) / 2
    low, high = np.quantile(_logistic(np.concatenate(levels)), [tail, 1 - tail])
    return float(low), float(high)


def _logistic(value: Any) -> Any:
    return 0.5 * (1 + np.tanh(value / 2))  # the same function, without overflow
