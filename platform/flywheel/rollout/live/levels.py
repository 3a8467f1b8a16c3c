"""How the chance of a false alarm is shared out, and how many units the plan wants. Pure.

A candidate is called worse if *any* alarm rings, so their levels sum to ``alpha`` (Bonferroni): half for the mean
difference, a quarter for the slices, the rest for missing answers, latency and cost. It is called better or no worse
only if *every* condition holds, so each of those keeps its own level (intersection-union test; Berger, "Multiparameter
hypothesis testing and acceptance sampling", Technometrics 24 (1982)). Every test holds at every look, so the promise
does not depend on how often somebody looks, or on when they stop.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from flywheel.config import LiveQualityConfig
from flywheel.rollout.live.result import Source
from flywheel.statistics.power import pairs_needed


class Levels(NamedTuple):
    """One-sided levels of the alarms, and the confidence of the interval that is shown."""

    quality: float
    """of one instrument"""
    slice: float
    """of one instrument in one slice"""
    missing: float
    latency: float
    cost: float
    confidence: float
    slice_confidence: float


def levels(rules: LiveQualityConfig, voters: int) -> Levels:
    """Levels where so many instruments vote."""
    alpha, count = rules.alpha, max(1, voters)
    in_slice = alpha / 4 / (count * (rules.max_slices + 1))  # one more for all groups that came too late
    return Levels(
        quality=alpha / 2 / count,
        slice=in_slice,
        missing=alpha / 12,
        latency=alpha / 12,
        cost=alpha / 12,
        confidence=1 - alpha,
        slice_confidence=1 - 2 * in_slice,
    )


def planned_units(rules: LiveQualityConfig, source: Source, voters: int) -> int:
    """Units that decide about a candidate with a chance of ``planned_power``, whichever way it is.

    Enough to see a loss of ``planned_difference``, and enough to show that an equal candidate is within the margin.
    Of a canary, a unit is a user of either arm, and its outcome is weighted by the inverse of its propensity: the plan
    is for the smallest share that counts, so it is on the safe side for every larger one.
    """
    discordant, scale = rules.planned_discordant, 1.0
    if source == "canary":
        scale = rules.min_propensity
        discordant *= scale + scale**2 / (1 - scale)
    within = _planned(0.0, discordant, rules.planned_power, 1 - rules.alpha, -rules.margin * scale)
    return max(within, planned_for_loss(rules, scale * rules.planned_difference, discordant, voters))


def planned_for_loss(rules: LiveQualityConfig, loss: float, discordant: float, voters: int) -> int:
    """Units with which a mean loss is seen, by one of so many instruments."""
    return _planned(loss, max(loss, discordant), rules.planned_power, 1 - 2 * levels(rules, voters).quality)


def planned_in_slice(rules: LiveQualityConfig, difference: float, discordant: float, voters: int) -> int:
    """The same for units of one slice and a difference in it, against the margin, at the slices' level."""
    return _planned(
        difference, max(difference, discordant), rules.planned_power,
        1 - 2 * levels(rules, voters).slice, rules.margin,
    )  # fmt: skip


@cache
def _planned(gain: float, discordant: float, wanted: float, confidence: float, limit: float = 0.0) -> int:
    return pairs_needed(gain, discordant, limit=limit, wanted=wanted, confidence=confidence, design="sequence")
