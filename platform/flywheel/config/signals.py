"""Settings of the signals: what is measured beside what costs nothing, and with how much of the machine."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from flywheel.config.base import Config


class ScoringPoolConfig(Config):
    """The Ray Data actor pools in which networks measure rows."""

    actors: int = Field(default=1, ge=1, description="actors of one pool")
    num_cpus: float = Field(default=0.5, ge=0, description="logical CPUs of one actor")
    num_gpus: float = Field(default=0, ge=0, description="GPUs of one actor")
    threads: int = Field(default=1, ge=1, description="torch threads of one actor")
    batch_tokens: int = Field(default=2_048, ge=1, description="tokens of one forward pass, padding included")
    chunk_rows: int = Field(default=256, ge=1, description="rows of similar length that travel to an actor together")
    block_chunks: int = Field(default=8, ge=1, description="chunks between two commits: what a kill can cost")


class RewardSignalConfig(Config):
    """Reward models from elsewhere: sequence classifiers in Hugging Face layout, several as an ensemble."""

    models: list[Path] = Field(
        default_factory=list[Path], description="folders; none: off. One output, or two (log-odds)"
    )
    spread_penalty: float = Field(
        default=1.0, ge=0, description="lambda of mean - lambda * standard deviation over the models"
    )
    max_length: int = Field(default=512, gt=1, description="tokens of prompt plus answer")


class PerplexitySignalConfig(Config):
    """How surprised a model is by the target."""

    enabled: bool = False
    model: Path | None = Field(default=None, description="folder; default: the model that the turn learns from")
    max_length: int = Field(default=512, gt=1, description="tokens of prompt plus answer")


class ToxicitySignalConfig(Config):
    """A classifier of toxic text."""

    model: Path | None = Field(default=None, description="folder of a sequence classifier; none: off")
    label: str = Field(default="toxic", description="the output that counts, by its name in the model's id2label")
    max_length: int = Field(default=256, gt=1, description="tokens of the target")


class SimilaritySignalConfig(Config):
    """Re-prompts by meaning."""

    encoder: str | None = Field(
        default=None, description="folder of a sentence encoder (mean pooling), or 'wordllama'; none: off"
    )
    max_length: int = Field(default=128, gt=1, description="tokens of one message")


class JudgeSignalConfig(Config):
    """The judge of ``judging``, marking targets."""

    enabled: bool = False
    max_rows: int = Field(default=1_000, ge=1, description="rows judged in one scoring, drawn by hash")


class EngagementSignalConfig(Config):
    """One network with a head for each action, weighted as a heavy ranker does."""

    enabled: bool = False
    weights: dict[str, float] = Field(
        default_factory=lambda: {"copy": 1.0, "click": 0.3, "completion": 1.0, "liked": 2.0, "abandonment": -10.0,
                                 "reprompt": -10.0, "disliked": -40.0},
        description="value of one action; the rarer and the more hostile, the larger: a missing head counts 0",
    )  # fmt: skip
    features: int = Field(default=4_096, ge=16, description="hashed words and pairs of words of prompt and answer")
    hidden: int = Field(default=32, ge=1, description="units of the shared layer")
    epochs: int = Field(default=20, ge=1)
    min_rows: int = Field(default=200, ge=1, description="with fewer rows with reactions in a fold: not measured")


class SignalsConfig(Config):
    """Which signals are measured. Those that cost nothing are on unless named in ``off``."""

    off: list[str] = Field(default_factory=list[str], description="names of signals that are never measured")
    pool: ScoringPoolConfig = Field(default_factory=ScoringPoolConfig)
    reward: RewardSignalConfig = Field(default_factory=RewardSignalConfig)
    perplexity: PerplexitySignalConfig = Field(default_factory=PerplexitySignalConfig)
    toxicity: ToxicitySignalConfig = Field(default_factory=ToxicitySignalConfig)
    similarity: SimilaritySignalConfig = Field(default_factory=SimilaritySignalConfig)
    judge: JudgeSignalConfig = Field(default_factory=JudgeSignalConfig)
    engagement: EngagementSignalConfig = Field(default_factory=EngagementSignalConfig)
