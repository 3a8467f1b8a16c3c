"""The language of filters: rules with a reason each, votes, weights. ``FilterConfig`` puts them together.

A bound is a number, or the name of one of the filter's own thresholds (``PARAMETERS``): those are what a sweep
varies, so that a searched filter keeps its rules and changes its numbers.
"""

from __future__ import annotations

import difflib
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from flywheel.config.base import Config

PARAMETERS: Final = (
    "min_reward_margin", "min_liked_reward", "min_preference", "min_agreement", "max_correction_distance",
    "min_rater_trust", "min_votes", "require_format",
)  # fmt: skip
"""Fields of ``FilterConfig`` that a bound may name; true and false count as 1 and 0."""

TAKEN: Final = frozenset({
    "no_training_consent", "ranked_list", "no_answer", "unsupported_form", "held_out", "no_feedback",
    "truncated_answer", "disliked_without_correction", "no_clear_feedback", "near_evaluation", "duplicate",
    "near_duplicate", "conflicting_target", "over_subject_cap", "over_replay_share", "over_older_share",
    "over_taught_share", "over_max_examples", "quarantined", "semantic_duplicate",
})  # fmt: skip
"""Reasons that other steps give: a rule with one of them could not be told from that step."""


def _known(bound: float | str) -> float | str:
    if isinstance(bound, str) and bound not in PARAMETERS:
        near = difflib.get_close_matches(bound, PARAMETERS, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"thresholds: {', '.join(PARAMETERS)}"
        raise ValueError(f"a bound is a number or the name of a threshold of this filter; {hint}")
    return bound


def _free(reason: str) -> str:
    if reason in TAKEN:
        raise ValueError("this reason is given by another step of curation; choose a name of your own")
    return reason


Bound = Annotated[float | str, AfterValidator(_known)]
"""A number, or a threshold's name."""
Reason = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$"), AfterValidator(_free)]
"""What a dropped row is counted under."""
Missing = Literal["pass", "fail"]
Rows = Literal["all", "corrections", "liked"]


class FilterRule(Config):
    """One condition on one signal. A row that it is about and that does not meet it is dropped, with the reason."""

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True, validate_by_alias=True)

    signal: str = Field(description="a name of quality.signals")
    at_least: Bound | None = None
    at_most: Bound | None = None
    between: tuple[Bound, Bound] | None = Field(default=None, description="both ends included")
    equals: Bound | None = None
    for_: Rows = Field(default="all", alias="for", description="which rows it is about")
    missing: Missing = Field(default="pass", description="what a row gets whose signal was not measured")
    reason: Reason

    @model_validator(mode="after")
    def _one_condition(self) -> FilterRule:
        stated = [name for name in ("at_least", "at_most", "between", "equals") if getattr(self, name) is not None]
        if len(stated) != 1:
            found = " and ".join(stated) or "none of them"
            raise ValueError(f"a rule states exactly one of at_least, at_most, between, equals; this one has {found}")
        if self.between is not None:
            low, high = self.between
            if isinstance(low, float) and isinstance(high, float) and low > high:
                raise ValueError(f"between goes from low to high, not from {low:g} to {high:g}")
        return self


class Vote(Config):
    """One signal that may approve a row. Not measured: it does not."""

    signal: str
    above: float | None = Field(default=None, description="approves strictly above this")
    below: float | None = Field(default=None, description="approves strictly below this")
    group: str | None = Field(
        default=None,
        description="signals that rest on the same evidence share a group, which has one vote; default: the signal",
    )
    corrections: Literal["signal", "approve"] = Field(
        default="signal", description="approve: a correction counts as approval, whatever the signal says"
    )

    @model_validator(mode="after")
    def _one_side(self) -> Vote:
        if (self.above is None) == (self.below is None):
            raise ValueError("a vote has either above or below")
        return self

    @property
    def of_group(self) -> str:
        """The group whose vote this is."""
        return self.group or self.signal


class Votes(Config):
    """Rows need the approval of ``k`` groups of signals."""

    k: Bound = "min_votes"
    of: tuple[Vote, ...] = ()
    reason: Reason = "too_few_votes"

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups, each once, in their order."""
        return tuple(dict.fromkeys(vote.of_group for vote in self.of))

    @model_validator(mode="after")
    def _enough(self) -> Votes:
        if isinstance(self.k, float) and self.k > len(self.groups):
            raise ValueError(f"k is {self.k:g}, but there are {len(self.groups)} groups, so no row could ever pass")
        return self


class WeightTerm(Config):
    """A straight ramp: 0 where the signal is ``zero_at``, 1 where it is ``one_at``, clipped beyond."""

    signal: str
    zero_at: float
    one_at: float
    missing: float = Field(default=1.0, ge=0, le=1, description="the factor of a row that was not measured")

    @model_validator(mode="after")
    def _has_a_slope(self) -> WeightTerm:
        if self.zero_at == self.one_at:
            raise ValueError("zero_at and one_at are equal: that is a hard cut, so make it a rule")
        return self


class Weights(Config):
    """Loss weight of each kept row: the product of the ramps, clipped. Rules drop rows, weights only quieten them."""

    of: tuple[WeightTerm, ...] = Field(min_length=1)
    least: float = Field(default=0.1, gt=0, le=1, description="no kept row weighs less; to drop rows there are rules")
    most: float = Field(default=1.0, gt=0, le=10)

    @model_validator(mode="after")
    def _in_order(self) -> Weights:
        if self.least > self.most:
            raise ValueError(f"least ({self.least:g}) is above most ({self.most:g})")
        return self


DEFAULT_RULES: Final = (
    FilterRule(signal="format", at_least="require_format", reason="unusual_format"),
    FilterRule(signal="correction_distance", at_most="max_correction_distance", reason="correction_too_far"),
    FilterRule(signal="rater_trust", at_least="min_rater_trust", reason="untrusted_rater"),
    FilterRule(signal="agreement", at_least="min_agreement", reason="others_disagree"),
    FilterRule(signal="preference", at_least="min_preference", reason="low_preference"),
    FilterRule.model_validate({"signal": "reward_margin", "at_least": "min_reward_margin", "for": "corrections",
                               "reason": "low_reward_margin"}),
    FilterRule.model_validate({"signal": "liked_percentile", "at_least": "min_liked_reward", "for": "liked",
                               "reason": "low_reward"}),
)  # fmt: skip
"""Asked in this order: the first that a row fails is its reason."""

DEFAULT_VOTES: Final = Votes(
    of=(
        Vote(signal="explicit", above=0.0, corrections="approve"),
        Vote(signal="engagement", above=0.5),
        Vote(signal="agreement", above=0.5),
        Vote(signal="preference", above=0.5),
        Vote(signal="rater_trust", above=0.5),
    )
)
"""What people said, what they did, what others say about such prompts, what the reward model learnt, and the
rater's record. A correction is itself a statement."""
