"""What answers to live traffic must show about a candidate's quality (``rollout/live``)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from flywheel.config.base import Config

Slice = Literal["length", "language", "tenant"]


class LiveQualityConfig(Config):
    """Verdicts on live traffic. A change of any of these begins the counting anew from the stored rows."""

    deciders: list[str] = Field(
        default_factory=lambda: ["checks", "reward", "judge"],
        description="instruments that may decide; the first that knows meaning gives the interval: checks (rules on "
        "texts), reward (evaluation.reward_model), judge (judging). One that helped to make the candidate has no vote",
    )
    alpha: float = Field(
        default=0.05, gt=0, lt=0.5,
        description="chance that a candidate just as good is ever called worse, however often one looks; also better",
    )  # fmt: skip
    margin: float = Field(
        default=0.05, gt=0, lt=1, description="a loss up to this counts as none, in points of [-1, 1]"
    )
    unit: Literal["session", "subject"] = Field(
        default="session", description="whose pairs are one unit; rows without a session go by their subject"
    )
    pairs_per_unit: int = Field(default=4, ge=1, le=8, description="the first so many of a unit count")
    settle_s: float = Field(default=15, gt=0, description="a unit is complete when nothing came for so long")
    late_s: float = Field(
        default=90, gt=0, description="a pair may be stored so much later than the live answer: at least the wait for "
        "the shadow (60 s at most), its timeout and the ingestion",
    )  # fmt: skip
    idle_s: float = Field(default=1_800, gt=0, description="a session that pauses longer is another unit")
    react_s: float = Field(default=120, gt=0, description="canary: how long a reaction to an answer is waited for")
    min_propensity: float = Field(
        default=0.05, gt=0, le=0.5, description="canary: smaller shares are too few users to compare, and do not count"
    )
    max_units: int = Field(
        default=50_000, ge=100, description="canary: users that are remembered; nobody new is counted after them"
    )
    max_missing_share: float = Field(
        default=0.05, gt=0, lt=1,
        description="of a unit's requests, mirrored but without an answer; canary: failed, beyond live's share",
    )  # fmt: skip
    slices: list[Slice] = Field(
        default_factory=lambda: ["length", "language", "tenant"], description="groups that are looked at by themselves"
    )
    slice_tags: list[str] = Field(
        default_factory=lambda: ["intent"], description="tags of the request whose values are groups, too"
    )
    max_slices: int = Field(default=40, ge=1, le=400, description="groups at the most; what comes after is one group")
    judge_share: float = Field(
        default=1.0, gt=0, le=1, description="share of the pairs that the judge is asked about, drawn by hash"
    )
    planned_difference: float = Field(default=0.1, gt=0, le=1, description="what the plan wants to see")
    planned_discordant: float = Field(
        default=0.3, gt=0, le=1, description="share of pairs on which one answer is better; canary: users who react"
    )
    planned_power: float = Field(default=0.9, gt=0, lt=1, description="chance to see it with the planned units")
