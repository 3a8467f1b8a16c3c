"""Settings of what models learn from and how: reward model, filter, sweep, training."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from flywheel.config.base import Config
from flywheel.config.filters import DEFAULT_RULES, DEFAULT_VOTES, FilterRule, Votes, Weights
from flywheel.config.goodhart import GoodhartConfig
from flywheel.config.ranker import EngagementRankerConfig
from flywheel.config.signals import SignalsConfig


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
    num_cpus: float = Field(default=0.5, ge=0, description="logical CPUs of one fold's training and one scoring actor")
    num_gpus: float = Field(
        default=0,
        ge=0,
        le=1,
        description="GPUs of one fold's training and one scoring actor; 0: CPUs, small bases only",
    )


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
    least_replayed: int = Field(
        default=200, ge=0, description="with few corrections liked rows fill up to so many rows, whatever that share"
    )
    older_per_new: float | None = Field(
        default=None, ge=0, description="replay share: rows that the model learnt from before, per new row; null: any"
    )
    taught_per_other: float = Field(
        default=0.35, ge=0, description="rehearsal share: rows of `flywheel import --taught`, per row of feedback"
    )
    rules: tuple[FilterRule, ...] = Field(
        default=DEFAULT_RULES, description="asked in this order; a bound may name one of the thresholds above"
    )
    votes: Votes = Field(default=DEFAULT_VOTES, description="approval by k of the signals' groups")
    weights: Weights | None = Field(default=None, description="loss weights of kept rows; null: all weigh 1")
    enabled: bool = Field(default=True, description="false keeps every consented row (for comparison only)")

    @model_validator(mode="after")
    def _reasons_differ(self) -> FilterConfig:
        reasons = [rule.reason for rule in self.rules] + [self.votes.reason]
        twice = sorted({reason for reason in reasons if reasons.count(reason) > 1})
        if twice:
            raise ValueError(f"each rule needs a reason of its own, and {', '.join(twice)} is given twice")
        if self.votes.k == "min_votes" and self.min_votes > len(self.votes.groups):
            raise ValueError(
                f"min_votes is {self.min_votes}, but {len(self.votes.groups)} groups vote, so no row could ever pass"
            )
        return self


class DedupConfig(Config):
    """How duplicates are found; how near is near is ``filter.near_duplicate_jaccard``."""

    index: bool = Field(default=True, description="keep band keys in the lake: a turn computes those of new rows only")
    bucket: int = Field(default=256, ge=2, description="prompts that share a band and are all compared; more: in part")
    encoder: str | None = Field(
        default=None,
        description="finds duplicates in other words: wordllama, or the folder of a sentence-transformers model such "
        "as MiniLM (pip install 'flywheel[similarity]'); default: off",
    )
    semantic_cosine: float = Field(default=0.95, gt=0, le=1, description="prompts at least this near mean the same")


class TrustConfig(Config):
    """Which feedback is quarantined before anything is built from it. All limits are counts, none is a share."""

    enabled: bool = Field(default=True, description="false lets everybody's feedback count")
    max_unconfirmed: int = Field(
        default=100, ge=1, description="votes of one actor that rest on this actor's word alone"
    )
    contradicted: float = Field(
        default=0.05, ge=0, lt=0.5, description="a vote is out when the others leave it at most this chance to be right"
    )
    confirmed: float = Field(default=0.8, gt=0.5, le=1, description="others leave it at least this chance: it stays")
    min_voices: int = Field(default=2, ge=1, description="others that must have spoken before a vote is contradicted")
    reliability_gap: float = Field(
        default=0.25, gt=0, lt=1, description="a rater this far below the mean reliability only counts where confirmed"
    )
    ring_accounts: int = Field(
        default=5, ge=2, description="accounts that agree with each other and with nobody else are a ring from here on"
    )
    ring_votes: int = Field(default=20, ge=2, description="votes that a ring has at least")
    burst_seconds: float = Field(default=600, gt=0, description="window in which votes are counted")
    burst_votes: int = Field(default=40, ge=2, description="fewer votes of one account in a window are no burst")
    burst_factor: float = Field(default=5, gt=1, description="times what is usual for the busiest window of a rater")
    lockstep_votes: int = Field(default=3, ge=2, description="equal votes in equal windows that make two accounts one")
    lockstep_overlap: float = Field(default=0.5, gt=0, le=1, description="share of both accounts' votes that they are")
    same_prompt: float = Field(default=0.9, gt=0, le=1, description="Jaccard index from which prompts count as one")
    same_text: float = Field(
        default=0.7, gt=0, le=1, description="Jaccard index from which pasted answers count as one"
    )


class QualityConfig(Config):
    """Signals, reward model, duplicates, filters."""

    filter: FilterConfig = Field(default_factory=FilterConfig)
    trust: TrustConfig = Field(default_factory=TrustConfig)
    filter_file: Path | None = Field(
        default=None, description="a FilterConfig file, e.g. a sweep's winner; wins over filter"
    )
    reward: RewardModelConfig = Field(default_factory=RewardModelConfig)
    dedup: DedupConfig = Field(default_factory=DedupConfig)
    signals: SignalsConfig = Field(default_factory=SignalsConfig)
    goodhart: GoodhartConfig = Field(default_factory=GoodhartConfig)
    ranker: EngagementRankerConfig = Field(default_factory=EngagementRankerConfig)
    failure_eval_share: float = Field(default=0.30, gt=0, lt=1, description="failures kept for evaluation")
    max_examples: int = Field(default=5_000, ge=1)
    min_examples: int = Field(default=50, ge=1, description="fewer than this: the turn stops before training")


class ProxyConfig(Config):
    """The sweep's second level: the best few filters, each with a short fine-tune on the rows that it keeps."""

    finalists: int = Field(default=0, ge=0, description="filters that get a fine-tune; 0: the first level decides")
    steps: int = Field(default=64, ge=1, description="optimizer steps of a proxy that nothing stops")
    first_rung: int = Field(default=8, ge=1, description="steps until proxies are first compared")
    reduction: int = Field(default=2, ge=2, description="ASHA: one in so many goes on from a rung to the next")
    min_prompts: int = Field(default=20, ge=1, description="tune-labelled prompts with a right answer, to compare by")
    max_concurrent: int = Field(default=1, ge=1, description="proxies that train side by side")
    num_cpus: float = Field(default=1.0, gt=0, description="logical CPUs of one proxy")


class SweepConfig(Config):
    """Ray Tune with Optuna over the filter thresholds."""

    trials: int = Field(default=4, ge=1, description="Tune trials; each evaluates a batch of proposals")
    proposals_per_trial: int = Field(default=50, ge=1)
    max_concurrent: int = Field(default=2, ge=1)
    wrong_row_cost: float = Field(default=3.0, gt=0, description="one wrong kept row outweighs this many right ones")
    in_turn: bool = Field(default=True, description="run the sweep inside a turn when enough tune labels exist")
    min_tune_labels: int = Field(default=40, ge=1)
    generation: int = Field(
        default=4, ge=1, description="trials that know nothing of each other; later ones start from what these found"
    )
    num_cpus: float = Field(default=0.5, gt=0, description="logical CPUs of one trial")
    proxy: ProxyConfig = Field(default_factory=ProxyConfig)


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
