"""Is this reward model worth anything? Held-out pairs against the baselines, calibrated, by slice. Pure.

Everything here is about pairs that the model which judged them had not seen, neither their people nor their prompts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import Field

from flywheel.quality.reward_baselines import BASELINES, won
from flywheel.quality.reward_calibration import Calibration, Interval, calibrate, cross_fitted, temperature
from flywheel.records import Record
from flywheel.statistics.bootstrap import mean_interval

MIN_ACCURACY = 0.6
"""A coin gives one half; a reward model has to rank this share of unseen pairs right."""
MIN_SLICE = 10
"""Pairs of a slice with fewer are shown under ``other``."""
RESAMPLES = 2_000


class HeldOut(Record):
    """One unseen pair: who judged it, and what the model and the baselines said (margins, the better answer's first).

    Rewards of a pair of one choice among several share its weight, so that a prompt with twelve contrasts weighs as
    much as one with a single comparison.
    """

    fold: int
    prompt: str = Field(description="key of the prompt: pairs of one are not independent")
    kind: str
    margin: float
    baselines: dict[str, float]
    slices: dict[str, str] = Field(default_factory=dict)
    weight: float = 1.0


class Row(Record):
    """Accuracy of a slice."""

    slice: str
    value: str
    pairs: int
    accuracy: Interval
    baseline: float = Field(description="accuracy of the better baseline there")


class RewardReport(Record):
    """What a reader, and every stage that would use the model, has to know."""

    pairs: int
    prompts: int
    accuracy: Interval
    baselines: dict[str, float]
    against: str = Field(description="the better baseline")
    difference: Interval = Field(description="accuracy minus that baseline's, paired, by prompt")
    calibration: Calibration = Field(description="after the temperature that the other folds teach")
    temperature: float = Field(description="what raw rewards are divided by")
    slices: list[Row]
    usable: bool
    reason: str


def report(pairs: Sequence[HeldOut], *, seed: int = 0) -> RewardReport | None:
    """The report of one model over all its folds; None where no pair was held out."""
    if not pairs:
        return None
    prompts = [pair.prompt for pair in pairs]
    raw = np.array([pair.margin for pair in pairs])
    right = won(raw)
    others = {name: won([pair.baselines[name] for pair in pairs]) for name in BASELINES if name in pairs[0].baselines}
    weights = np.array([pair.weight for pair in pairs])
    means = {name: float(np.average(values, weights=weights)) for name, values in others.items()}
    against = max(means, key=lambda name: means[name])
    accuracy = _interval(right, prompts, weights, seed)
    difference = _interval(right - others[against], prompts, weights, seed)
    usable, reason = verdict(accuracy.value, difference, against)
    margins = cross_fitted(raw, [pair.fold for pair in pairs])
    return RewardReport(
        pairs=len(pairs), prompts=len(set(prompts)), accuracy=accuracy,
        baselines={name: round(mean, 4) for name, mean in means.items()}, against=against, difference=difference,
        calibration=calibrate(margins, clusters=prompts), temperature=temperature(raw),
        slices=by_slice(pairs, right, others[against], seed=seed), usable=usable, reason=reason,
    )  # fmt: skip


def verdict(accuracy: float, difference: Interval, against: str) -> tuple[bool, str]:
    """Whether the model's word may count, and why."""
    beyond = f"{100 * difference.value:+.1f} points beside '{against}'"
    if difference.low is not None and difference.high is not None:
        beyond += f" [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"
    if accuracy < MIN_ACCURACY:
        return False, f"ranks {accuracy:.0%} of unseen pairs right, at least {MIN_ACCURACY:.0%} needed; {beyond}"
    if difference.value <= 0:
        return False, f"no better than the baseline on unseen pairs: {beyond}"
    sure = difference.low is not None and difference.low > 0
    return True, f"better than the baseline on unseen pairs{'' if sure else ', which may be chance'}: {beyond}"


def by_slice(pairs: Sequence[HeldOut], right: np.ndarray, other: np.ndarray, *, seed: int = 0) -> list[Row]:
    """Accuracy of each kind of pair and of each slice, the largest first; small slices together as ``other``."""
    places: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, pair in enumerate(pairs):
        for name, value in ({"kind": pair.kind} | pair.slices).items():
            places[name, value].append(place)
    merged: dict[tuple[str, str], list[int]] = defaultdict(list)
    for (name, value), rows in places.items():
        merged[name, value if len(rows) >= MIN_SLICE else "other"] += rows
    weights = np.array([pair.weight for pair in pairs])
    made = [
        Row(
            slice=name, value=value, pairs=len(rows),
            accuracy=_interval(right[rows], [pairs[row].prompt for row in rows], weights[rows], seed),
            baseline=round(float(np.average(other[rows], weights=weights[rows])), 4),
        )
        for (name, value), rows in merged.items()
    ]  # fmt: skip
    return sorted(made, key=lambda row: (row.slice, -row.pairs, row.value))


def table(found: RewardReport) -> list[Mapping[str, str]]:
    """The slices for a terminal or a page, all pairs first."""
    everything = Row(slice="all", value="", pairs=found.pairs, accuracy=found.accuracy,
                     baseline=found.baselines[found.against])  # fmt: skip
    return [
        {"slice": row.slice, "value": row.value, "pairs": f"{row.pairs:,}", "accuracy": _percent(row.accuracy),
         found.against: f"{row.baseline:.1%}"}
        for row in (everything, *found.slices)
    ]  # fmt: skip


def _percent(found: Interval) -> str:
    if found.low is None or found.high is None:
        return f"{found.value:.1%}"
    return f"{found.value:.1%} [{found.low:.1%}, {found.high:.1%}]"


def _interval(values: np.ndarray, prompts: Sequence[str], weights: np.ndarray, seed: int) -> Interval:
    """Weighted mean; its interval resamples prompts, each with the weighted mean of its own pairs."""
    names, place = np.unique(np.asarray(prompts), return_inverse=True)
    sums, sizes = np.bincount(place, weights * values), np.bincount(place, weights)
    mean = float(np.average(values, weights=weights))
    if len(names) < 2:
        return Interval(value=round(mean, 4))
    if np.allclose(weights, 1):
        found = mean_interval(values, clusters=list(prompts), resamples=RESAMPLES, seed=seed)
        return Interval(value=round(mean, 4), low=round(found.low, 4), high=round(found.high, 4))
    centred = sums - mean * sizes  # of a ratio: the influence of each prompt (Cochran 1977, chapter 6)
    found = mean_interval(centred / sizes.mean() + mean, resamples=RESAMPLES, seed=seed)
    return Interval(value=round(mean, 4), low=round(found.low, 4), high=round(found.high, 4))
