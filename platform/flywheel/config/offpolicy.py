"""A question to logged traffic: what would another policy have earned? One YAML file holds one ``PolicyQuestion``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from flywheel.config.base import Config


class OutcomeConfig(Config):
    """What counts as earned. Higher is better: what speaks against an answer counts negative."""

    kind: Literal[
        "thumbs", "rating", "click", "copy", "completion", "dwell", "abandon", "reprompt", "correction"
    ] = Field(
        default="thumbs",
        description="thumbs: -1 to 1; rating: 1 to 5 as 0 to 1; click, copy: 1 if it happened; completion: share that "
        "was read; dwell: time as a share of dwell_cap_s; abandon, reprompt, correction: -1 if it happened",
    )  # fmt: skip
    missing: Literal["zero", "leave_out"] | None = Field(
        default=None,
        description="rows without such a reaction count as 0, or not at all; none: as 0, ratings not at all. What is "
        "left out by what people do is no random sample: a policy can change who rates",
    )
    actions: dict[str, float] = Field(
        default_factory=dict, description="lists: worth of an item's action, 0 to 1; empty: any action is worth 1"
    )
    dwell_cap_s: float = Field(default=60, gt=0, description="dwell: longer is not better")
    wait_h: float = Field(default=1, ge=0, description="rows younger than this may still get their reaction: left out")

    @model_validator(mode="after")
    def _is_worth_something(self) -> OutcomeConfig:
        if any(not 0 <= worth <= 1 for worth in self.actions.values()):
            raise ValueError("actions are worth 0 to 1 each")
        return self

    def leaves_out(self) -> bool:
        """Whether rows without a reaction are left out."""
        return (self.missing or ("leave_out" if self.kind == "rating" else "zero")) == "leave_out"


class OverlapLimits(Config):
    """Where an estimate is refused, because the logs say too little about the target (see statistics/offpolicy)."""

    min_units: int = Field(default=30, ge=2, description="independent units: users, else sessions, else requests")
    min_effective: float = Field(default=50, ge=2, description="effective sample size (Kish)")
    min_tail: float = Field(default=5, ge=0, description="units in the thinner tail of what is averaged")
    min_expected_tail: float = Field(default=10, ge=0, description="rows that the largest weights rest on")
    max_unsupported: float = Field(
        default=0.01, ge=0, lt=1, description="share of the target's choices that were never possible"
    )


class PolicyQuestion(Config):
    """A target policy, what counts as earned, and the traffic that is to tell."""

    of: Literal["choices", "lists", "variants"] = Field(
        description="choices: best of n; lists: /v1/rank; variants: which model answers, from canaries"
    )
    policy: Literal["softmax", "epsilon_greedy", "uniform"] = Field(
        default="softmax", description="choices, lists: how the target chooses by score"
    )
    temperature: float = Field(default=1.0, ge=1e-6, description="choices, lists: of the softmax")
    epsilon: float = Field(default=0.0, ge=0, le=1, description="choices, lists: share of uniform choices")
    scores: Path | None = Field(
        default=None,
        description="choices, lists: another ranker's scores, JSON lines or Parquet with inference_id and scores (one "
        "a choice, or one an item, in the row's order); none: the logged ones",
    )
    version: str | None = Field(default=None, min_length=1, description="variants: this version always answers")
    split: dict[str, float] = Field(default_factory=dict, description="variants: or a split, version: share")
    outcome: OutcomeConfig = Field(default_factory=OutcomeConfig)
    estimator: str | None = Field(
        default=None,
        description="whose word counts; none: sndr for choices and variants, rips for lists. All that fit are shown",
    )
    places: int = Field(default=10, ge=1, le=50, description="lists: outcomes at so many places from the top count")
    by_place: bool = Field(
        default=True, description="lists: also the estimators that need chances at places; 2 kB a list in memory"
    )
    max_weight: float | None = Field(
        default=None, gt=1, description="choices, variants: clip weights here; the interval holds the possible bias"
    )
    days: int = Field(default=30, ge=1, description="traffic of so many days up to today")
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    limits: OverlapLimits = Field(default_factory=OverlapLimits)

    @model_validator(mode="after")
    def _names_one_target(self) -> PolicyQuestion:
        if (self.of == "variants") != bool(self.version or self.split) or (self.version and self.split):
            raise ValueError("variants: give version or split, one of them; choices and lists: neither")
        if self.of == "variants" and self.scores is not None:
            raise ValueError("scores are of choices and lists")
        if self.split and (min(self.split.values()) < 0 or abs(sum(self.split.values()) - 1) > 1e-9):
            raise ValueError("the shares of a split are 0 or more and sum to 1")
        if self.estimator is not None and self.estimator not in ESTIMATORS[self.of]:
            raise ValueError(f"estimator: one of {', '.join(ESTIMATORS[self.of])}")
        if self.of == "lists" and self.outcome.kind not in {"click", "copy", "completion", "dwell"}:
            raise ValueError(
                "lists: outcomes are actions on items; set outcome.kind to click, copy, completion or dwell"
            )
        return self

    def headline(self) -> str:
        """The estimator whose word counts."""
        return self.estimator or ("rips" if self.of == "lists" else "sndr")

    def variants(self) -> dict[str, float]:
        """The target's share of each version."""
        return dict(self.split) if self.split else {self.version or "": 1.0}


_SINGLE = ("ips", "snips", "dr", "sndr")
ESTIMATORS: dict[str, tuple[str, ...]] = {
    "choices": _SINGLE,
    "variants": _SINGLE,
    "lists": ("sips", "snsips", "rips", "snrips", "iips", "sniips", "pbm"),
}
"""What can be asked of each kind of decision."""
