"""Settings of what is measured and what decides: evaluation, judges, gate, rollout."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from flywheel.config.base import Config
from flywheel.config.live import LiveQualityConfig
from flywheel.config.rolling import OperationalGuards, StepConfig


class MiningConfig(Config):
    """How failures are proposed as cases (`flywheel cases mine`)."""

    per_cluster: int = Field(default=5, ge=1, description="cases of one cluster of alike failures at the most")
    max_proposed: int = Field(default=200, ge=1, description="proposals that wait for a person at the most")
    traffic_sample: int = Field(default=2_000, ge=1, description="requests that say how frequent a cluster is")
    saturated_after: int = Field(
        default=5, ge=2, description="models in a row that pass a case which then tells nothing"
    )


class RegressionConfig(Config):
    """The suite `regression`: what models that were live got right."""

    models: int = Field(default=2, ge=1, description="live models, present or past, that passed a case")
    max_cases: int = Field(default=300, ge=1, description="cases of the suite at the most, drawn by hash")


class EvaluationConfig(Config):
    """What is measured, and how."""

    primary_suite: str = "random"
    guard_suites: list[str] = Field(default_factory=lambda: ["old-intents"])
    report_suites: list[str] = Field(default_factory=lambda: ["failures"])
    concurrency: int = Field(default=32, ge=1)
    max_tokens: int = Field(default=48, gt=0)
    resamples: int = Field(default=10_000, ge=100, description="bootstrap resamples")
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    encoder: str = Field(
        default="wordllama", description="embeds for checks of kind similarity: wordllama, or a model's folder"
    )
    reward_model: str | None = Field(default=None, description="id of the one that checks of kind reward ask")
    allow_code: bool = Field(default=False, description="checks of kind code run what a model wrote, in a sandbox")
    allow_unconfined_code: bool = Field(
        default=False,
        description="with allow_code: run it without a sandbox, with this user's files and network",
    )
    interval: Literal["bootstrap", "sequence"] = Field(
        default="bootstrap",
        description="bootstrap: a candidate is judged once; sequence: wider, and holds however often one looks",
    )
    engine: Literal["serve", "batch"] = Field(
        default="serve", description="what `flywheel evaluate` asks; batch: ray.data.llm, for GPUs and big suites"
    )
    price_per_1k_prompt_tokens: float | None = Field(default=None, ge=0, description="any currency; for the cost")
    price_per_1k_completion_tokens: float | None = Field(default=None, ge=0, description="the same currency")
    drift_window: int = Field(default=50, ge=20, description="people with a fresh labelled answer in one drift test")
    drift_alpha: float = Field(
        default=0.05, gt=0, lt=0.5, description="chance of any false drift alarm while one model is live"
    )
    mining: MiningConfig = Field(default_factory=MiningConfig)
    regression: RegressionConfig = Field(default_factory=RegressionConfig)


class JudgingConfig(Config):
    """A language model that compares answers. By default there is none; its word counts only as far as people agree."""

    backend: Literal["none", "endpoint", "engine", "batch"] = Field(
        default="none",
        description="endpoint: any OpenAI-compatible address; engine: a model version on our engines; batch: the same "
        "as one Ray Data job, for many pairs",
    )
    model: str | None = Field(default=None, description="its name at the endpoint; else a version or a model folder")
    url: str | None = Field(default=None, description="endpoint: base address, usually ending in /v1")
    key_env: str | None = Field(default=None, description="endpoint: environment variable that holds the key")
    in_cluster_hosts: list[str] = Field(
        default_factory=list,
        description="hosts of endpoints that are our own; others need third_party consent, but for loopback and *.svc",
    )
    form: Literal["json_schema", "json_object", "free"] = Field(
        default="json_schema", description="how the endpoint holds replies to their form; free: it is only asked to"
    )
    criterion: str = Field(
        default="The answer does what the user asks for, correctly and completely.", min_length=1,
        description="what is better about the better answer",
    )  # fmt: skip
    revision: str = Field(
        default="1", description="a new value makes a new judge, e.g. when the model behind it changed"
    )
    max_tokens: int = Field(default=32, gt=0, description="longest reply")
    max_model_len: int = Field(
        default=2048,
        gt=0,
        description="engine, batch: longest question plus reply, tokens; an engine that runs keeps its",
    )
    concurrency: int = Field(default=8, ge=1, description="questions in flight")
    timeout_s: float = Field(default=60, gt=0, description="seconds one try of a question may take")
    attempts: int = Field(default=4, ge=1, description="tries of a question")
    min_kappa: float = Field(default=0.6, ge=0, le=1, description="least Cohen's kappa with people for it to count")
    min_labels: int = Field(default=50, ge=2, description="least labels of split tune behind that kappa")
    attack_items: int = Field(default=30, ge=1, description="items of each attack during calibration")
    max_position_bias: float = Field(
        default=0.3, ge=0, le=1, description="|first - second| place, as a share of the replies that name one"
    )
    max_length_gain: float = Field(default=0.1, ge=0, le=1, description="share of answers that filler makes win")
    max_injection_gain: float = Field(default=0.04, ge=0, le=1, description="share of 50 injected sentences that win")
    max_constant_wins: float = Field(default=0.1, ge=0, le=1, description="share that the best constant answer wins")

    @field_validator("url")
    @classmethod
    def _holds_no_key(cls, value: str | None) -> str | None:
        if value is not None and (not value.startswith(("http://", "https://")) or "@" in value):
            raise ValueError("not an http(s) address without user and password; name the key's variable in key_env")
        return value

    @model_validator(mode="after")
    def _is_complete(self) -> JudgingConfig:
        if self.backend != "none" and not self.model:
            raise ValueError(f"backend '{self.backend}' needs judging.model")
        if (self.backend == "endpoint") != (self.url is not None):
            raise ValueError("judging.url goes with backend 'endpoint', and only with it")
        return self


class GuardPolicy(Config):
    """One guard suite with limits of its own, e.g. a safety suite. A suite named here must be measured."""

    max_loss: float = Field(default=0.02, ge=0, description="lower bound must exceed minus this")
    min_cases: int = Field(default=200, ge=0)


class GatePolicy(Config):
    """What a candidate must show before it serves. Whatever is asked for and missing does not promote.

    Limits that are none are not asked about.
    """

    min_primary_cases: int = Field(default=600, ge=1)
    max_primary_cases: int = Field(
        default=20_000, ge=1, description="evaluation.interval sequence: undecided with so many is rejected"
    )
    min_primary_gain: float = Field(default=0.0, description="lower bound of the paired gain must exceed this")
    max_guard_loss: float = Field(default=0.02, ge=0, description="lower bound on guard suites must exceed minus this")
    min_guard_cases: int = Field(default=200, ge=0)
    guards: dict[str, GuardPolicy] = Field(
        default_factory=dict, description="guard suites with limits of their own, beside evaluation.guard_suites"
    )
    max_unpaired_share: float = Field(
        default=0.02, ge=0, le=1, description="cases of a suite without an answer of both models"
    )
    max_offline_latency_ratio: float | None = Field(
        default=None, gt=0, description="candidate / live median latency on the primary suite; for quiet machines only"
    )
    max_token_ratio: float | None = Field(
        default=None, gt=0, description="candidate / live median tokens of a request, prompt and answer"
    )
    max_length_ratio: float | None = Field(
        default=None, gt=0, description="candidate / live median length of an answer, characters"
    )
    min_length_ratio: float | None = Field(default=None, gt=0, description="the same, from below")
    max_empty_increase: float | None = Field(default=None, ge=0, le=1, description="rise of the share of empty answers")
    max_refusal_increase: float | None = Field(
        default=None, ge=0, le=1, description="rise of the share of answers that refuse (text/refusals.py)"
    )
    require_shadow: bool = True
    min_shadow_pairs: int = Field(default=100, ge=0)
    max_shadow_error_rate: float = Field(default=0.02, ge=0, le=1)
    max_latency_ratio: float = Field(default=1.5, gt=0, description="candidate / live median latency in the shadow")
    require_live_quality: bool = Field(
        default=False, description="answers to live traffic must show that it is no worse (rollout.live)"
    )
    max_leaks: int = Field(default=0, ge=0)
    require_judge: bool = Field(default=False, description="a judge that counts must have compared the candidate")
    min_judged_pairs: int = Field(default=100, ge=1, description="decided pairs of a judge")
    min_judge_rate: float = Field(
        default=0.48, ge=0, le=1, description="lower bound of the length-controlled win rate must exceed this"
    )
    min_audit_agreement: float | None = Field(
        default=None, ge=0, le=1, description="share of audit labels that the filter agrees with (Goodhart's law)"
    )
    min_audit_labels: int = Field(default=30, ge=1, description="fewer say nothing about the filter")
    require_approval: bool = Field(default=False, description="`flywheel approve` has the last word")

    def guard(self, suite: str) -> GuardPolicy:
        """The limits of one guard suite: its own, else those of all."""
        general = GuardPolicy(max_loss=self.max_guard_loss, min_cases=self.min_guard_cases)
        return self.guards.get(suite, general)


class RolloutConfig(Config):
    """Shadow and promotion."""

    shadow_share: float = Field(default=1.0, gt=0, le=1, description="share of consented live traffic mirrored")
    shadow_budget: float | None = Field(
        default=None, gt=0, description="several shadows: their answers a live request, of all together. Shares then "
        "follow the live verdicts, to the two that may be best; null: every share stays as it was given",
    )  # fmt: skip
    live: LiveQualityConfig = Field(default_factory=LiveQualityConfig)
    shadow_wait_s: float = Field(default=180, ge=0, description="how long a turn waits for shadow pairs")
    gate: GatePolicy = Field(default_factory=GatePolicy)
    gate_file: Path | None = Field(default=None, description="a GatePolicy file; wins over gate")
    canary_steps: list[float] = Field(
        default_factory=list[float],
        description="shares of the users that a candidate past the gate answers one after another, e.g. [0.05, 0.25, "
        "0.5], before it is live; empty: the gate's word makes it live at once",
    )
    step: StepConfig = Field(default_factory=StepConfig)
    guards: OperationalGuards = Field(default_factory=OperationalGuards)

    @field_validator("canary_steps")
    @classmethod
    def _grow(cls, value: list[float]) -> list[float]:
        if any(not 0 < share < 1 for share in value) or value != sorted(set(value)):
            raise ValueError("shares inside (0, 1), each above the one before")
        return value
