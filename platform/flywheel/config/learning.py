"""Settings of what models learn from and how: reward model, filter, sweep, training."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from flywheel.config.base import Config


class RewardModelConfig(Config):
    """The learnt reward model: Bradley-Terry on (chosen, rejected) answers to one prompt."""

    base: str | None = Field(
        default=None, description="model to start from, a decoder or an encoder; default: the live model"
    )
    variant: Literal["auto", "full", "head"] = Field(
        default="auto",
        description="full: train every weight; head: keep an encoder frozen; auto: head for encoders, else full",
    )
    thumbs: Literal["off", "pairs", "outside"] = Field(
        default="pairs",
        description="pairs: liked against disliked answers to the same prompt; outside: all other thumbs too, "
        "against an option of reward 0",
    )
    folds: int = Field(default=2, ge=2, description="cross-fitting: a row is scored by a model that never saw it")
    epochs: int = Field(default=4, ge=1)
    batch_size: int = Field(default=8, ge=1, description="prompts in one step, each with all its answers")
    learning_rate: float = Field(default=1e-3, gt=0)
    negatives: int = Field(default=2, ge=0, description="answers to other prompts used as extra rejected ones")
    contrasts: int = Field(default=12, ge=0, description="scoring: answers to other prompts the target must beat")
    label_smoothing: float = Field(default=0.1, ge=0, lt=1, description="share of preferences assumed to be noise")
    max_pairs: int = Field(default=2_000, ge=1, description="training rows of one fold at the most, drawn by hash")
    max_length: int = Field(default=192, gt=0, description="tokens of prompt plus answer")
    actors: int = Field(default=1, ge=1, description="scoring actors in the Ray Data pool")
    num_cpus: float = Field(default=0.5, ge=0, description="logical CPUs of one scoring actor")


class FilterConfig(Config):
    """Which candidates become training examples. The sweep's winner is a file of this type."""

    version: str = "default"
    min_reward_margin: float = Field(default=-2.0, description="correction: reward(correction) - reward(answer)")
    min_liked_reward: float = Field(default=0.0, description="liked answer: reward percentile in [0, 1]")
    min_preference: float = Field(
        default=0.0, ge=0, le=1, description="probability under the reward model that the target beats its contrasts"
    )
    min_agreement: float = Field(
        default=0.2, ge=0, le=1, description="support for the target by a cross-fitted model of other users' answers"
    )
    max_correction_distance: float = Field(
        default=1.0, ge=0, le=1, description="a correction further than this from the answer is something else"
    )
    min_rater_trust: float = Field(default=0.0, ge=0, le=1, description="agreement of the rater with the rest")
    min_votes: int = Field(default=1, ge=0, description="orthogonal signals that must approve a row")
    max_per_subject: int = Field(default=20, ge=1, description="rows one person can contribute")
    require_format: bool = Field(default=True, description="targets must have the form most good answers have")
    near_duplicate_jaccard: float = Field(default=0.9, gt=0, le=1, description="drop rows at least this similar")
    liked_per_correction: float = Field(default=1.0, ge=0, description="replay share: liked rows per correction")
    enabled: bool = Field(default=True, description="false keeps every consented row (for comparison only)")


class QualityConfig(Config):
    """Signals, reward model, duplicates, filters."""

    filter: FilterConfig = Field(default_factory=FilterConfig)
    filter_file: Path | None = Field(
        default=None, description="a FilterConfig file, e.g. a sweep's winner; wins over filter"
    )
    reward: RewardModelConfig = Field(default_factory=RewardModelConfig)
    failure_eval_share: float = Field(default=0.30, gt=0, lt=1, description="failures kept for evaluation")
    max_examples: int = Field(default=5_000, ge=1)
    min_examples: int = Field(default=50, ge=1, description="fewer than this: the turn stops before training")


class SweepConfig(Config):
    """Ray Tune with Optuna over the filter thresholds."""

    trials: int = Field(default=4, ge=1, description="Tune trials; each evaluates a batch of proposals")
    proposals_per_trial: int = Field(default=50, ge=1)
    max_concurrent: int = Field(default=2, ge=1)
    wrong_row_cost: float = Field(default=3.0, gt=0, description="one wrong kept row outweighs this many right ones")
    in_turn: bool = Field(default=True, description="run the sweep inside a turn when enough tune labels exist")
    min_tune_labels: int = Field(default=40, ge=1)


class LoraConfig(Config):
    """Low-rank adapters (Hu et al. 2021) instead of full weights. They are merged into the model that is registered."""

    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32, gt=0, description="the update is scaled by alpha / rank")
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: list[str] | Literal["all-linear"] = Field(
        default="all-linear", description="names of the layers that get an adapter, e.g. [q_proj, v_proj]"
    )


class TrainingConfig(Config):
    """Supervised fine-tuning with DeepSpeed under Ray Train."""

    num_workers: int = Field(default=2, ge=1)
    cpus_per_worker: float = Field(default=1, gt=0)
    gpus_per_worker: float = Field(default=0, ge=0)
    threads: int = Field(default=1, ge=1, description="torch threads of one worker")
    epochs: int = Field(default=4, ge=1)
    micro_batch_size: int = Field(default=8, ge=1, description="examples a worker puts through at once")
    gradient_accumulation: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup_ratio: float = Field(default=0.1, ge=0, le=1)
    weight_decay: float = Field(default=0.01, ge=0)
    max_length: int = Field(default=256, gt=0, description="tokens; longer examples are dropped with a reason")
    zero_stage: Literal[0, 1, 2, 3] = 2
    dtype: Literal["float32", "bfloat16"] = "float32"
    checkpoint_every: int = Field(default=50, ge=1, description="optimizer steps")
    max_failures: int = Field(default=2, ge=0, description="worker losses survived by resuming")
    gradient_clipping: float = Field(default=1.0, gt=0)
    prompt_loss_weight: float = Field(default=0.0, ge=0, le=1, description="0: learn from answers only")
    lora: LoraConfig | None = Field(default=None, description="train adapters instead of full weights")

    @model_validator(mode="after")
    def _lora_needs_whole_weights(self) -> TrainingConfig:
        if self.lora is not None and self.zero_stage == 3:
            raise ValueError("lora merges whole weights, which zero_stage 3 splits; set zero_stage to 2 or less")
        return self
