"""Settings of the ranker that learns from ranked lists, and of what it must show before it serves."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from flywheel.config.base import Config

DWELL = "dwell"
"""The action that a long look at an opened item counts as."""


class EngagementRankerConfig(Config):
    """A ranker by engagement: one head for each action, weighted as a heavy ranker does."""

    weights: dict[str, float] = Field(
        default_factory=lambda: {"click": 0.3, "open": 0.3, DWELL: 10.0, "like": 0.5, "share": 1.0, "reply": 13.5,
                                 "hide": -74.0, "report": -369.0},
        min_length=1, description="value of an action, by the name that feedback gives it; rare harm weighs most",
    )  # fmt: skip
    dwell_ms: float = Field(
        default=120_000, gt=0, description="an item that was dwelt on so long counts as the action 'dwell'"
    )
    exposure: Literal["reported", "all"] = Field(
        default="reported",
        description="reported: an item was on screen if feedback says shown_ms or an action; all: every item was",
    )
    debias: bool = Field(default=True, description="correct for places and for what was shown; false: to compare only")
    max_weight: float = Field(default=10.0, ge=1, description="of one shown item, however unlikely its place was")
    min_lists: int = Field(default=200, ge=1, description="lists with feedback that are needed to train")
    max_lists: int = Field(default=50_000, ge=1, description="the newest so many are learnt from")
    max_per_person: int = Field(default=200, ge=1, description="lists of one person, drawn by hash")
    min_actions: int = Field(default=10, ge=1, description="an action that is rarer has no head and counts 0")
    held_out: float = Field(default=0.1, gt=0, lt=1, description="share of people whose lists only measure the heads")
    prior_scale: float = Field(default=0.5, gt=0, description="standard deviation of a coefficient before any data")
    item_ids: bool = Field(default=True, description="learn also about single items, not only about their features")
    buckets: int = Field(default=16_384, ge=64, description="hashed words, categories and ids")
    min_shadow_lists: int = Field(default=500, ge=2, description="promotion: lists with scores of the candidate")
    min_effective: float = Field(default=100, gt=0, description="promotion: lists of its own that those are worth")
    min_gain: float = Field(default=0.0, description="promotion: the lower bound of the gain must exceed this")
    max_missing: float = Field(default=0.02, ge=0, le=1, description="promotion: share of lists it gave no scores for")
    alpha: float = Field(
        default=0.05, gt=0, lt=0.5, description="promotion: chance of a false one over all looks at one candidate"
    )

    @model_validator(mode="after")
    def _means_something(self) -> EngagementRankerConfig:
        if not any(self.weights.values()):
            raise ValueError("weights: at least one action needs a value other than 0")
        return self
