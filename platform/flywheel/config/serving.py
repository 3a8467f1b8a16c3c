"""Settings of what answers: engines, rankers, the gateway, capture."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from flywheel.config.base import Config


class EngineConfig(Config):
    """How a model version is served by vLLM."""

    max_model_len: int = Field(default=256, gt=0, description="longest prompt plus answer, tokens")
    max_num_seqs: int = Field(default=32, gt=0, description="requests in one engine batch")
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    enforce_eager: bool = Field(default=True, description="no graph capture: faster start, right for CPU")
    kv_cache_gib: float = Field(default=1, gt=0, description="CPU only: key-value cache, GiB")
    threads: int = Field(default=1, ge=1, description="CPU only: threads of one engine")
    num_cpus: float = Field(default=0.5, ge=0, description="logical CPUs reserved for one engine")
    num_gpus: float = Field(default=0, ge=0, description="GPUs reserved for one engine; 0 runs on CPU")
    accelerator_type: str | None = Field(default=None, description="Ray accelerator type, e.g. A10G")
    max_ongoing_requests: int = Field(default=64, gt=0, description="requests in flight at one engine replica")
    num_replicas: int = Field(default=1, ge=1)
    start_timeout_s: float = Field(default=300, gt=0, description="give up on an engine that is not ready by then")
    request_timeout_s: float = Field(default=60, gt=0)
    tool_call_parser: str | None = Field(
        default=None, description="vLLM's parser of this model's tool calls (hermes, llama3_json, mistral, ...); "
        "without one only named and required tools can be asked for",
    )  # fmt: skip
    stream_interval_ms: float = Field(
        default=20, ge=0, description="tokens of a stream that follow within it travel together; the first never waits"
    )
    tensor_parallel_size: int = Field(default=1, ge=1, description="GPUs that share one copy of the weights")
    scheduling_policy: Literal["priority", "fcfs"] = Field(
        default="priority", description="priority: mirrored requests wait for, and make way for, live ones"
    )
    enable_lora: bool = Field(default=False, description="let LoRA candidates ride on the engine of their base")
    max_loras: int = Field(default=2, ge=1, description="adapters in one engine at a time")
    max_lora_rank: Literal[8, 16, 32, 64, 128, 256] = Field(default=16, description="larger ones are refused")


class RankerConfig(Config):
    """A reward model that scores answers and items while users wait: a Serve application of its own."""

    model: str | None = Field(
        default=None, description="folder of a sequence classifier in safetensors; none: there is no such application"
    )
    version: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="name in rows; default: the folder's"
    )
    max_length: int = Field(default=512, gt=1, description="tokens of prompt plus answer; prompts lose their beginning")
    batch_size: int = Field(default=32, ge=1, description="candidates in one forward pass")
    threads: int = Field(default=1, ge=1, description="CPU threads of one replica")
    num_cpus: float = Field(default=0.5, ge=0, description="logical CPUs reserved for one replica")
    num_gpus: float = Field(default=0, ge=0, description="GPUs reserved for one replica; 0 runs on CPU")
    num_replicas: int = Field(default=1, ge=1)

    def name(self) -> str | None:
        """The version in force; None without a model."""
        return (self.version or Path(self.model).name) if self.model else None


class ChoosingConfig(Config):
    """How one of several is chosen by score. The chance of what was chosen is recorded with it."""

    policy: Literal["softmax", "epsilon_greedy", "uniform"] = "softmax"
    temperature: float = Field(default=1.0, ge=1e-6, description="softmax: in units of the ranker's score")
    epsilon: float = Field(default=0.05, ge=0, le=1, description="share of uniform choices that is mixed in")
    timeout_s: float = Field(default=1.0, gt=0, description="a ranker that is slower is done without")


class BestOfConfig(ChoosingConfig):
    """Best-of-n: several answers are drawn, one is served."""

    n: int = Field(default=1, ge=1, le=8, description="answers drawn where a request names no best_of; 1: off")
    ranker: Literal["none", "likelihood", "reward"] = Field(
        default="likelihood", description="likelihood: mean log-probability of the tokens; reward: gateway.ranker"
    )


class RankingConfig(ChoosingConfig):
    """Ranked lists (POST /v1/rank)."""

    ranker: Literal["none", "given", "reward", "engagement"] = Field(
        default="given",
        description="given: the scores that the product sends; reward: gateway.ranker; engagement: the one that "
        "`flywheel ranker promote` put live, and until then the product's scores",
    )
    shadow_timeout_s: float = Field(
        default=0.25, gt=0, description="engagement: how long a list waits at most for rankers in the shadow"
    )
    max_items: int = Field(default=200, ge=1, le=1_000, description="items of one request at the most")


class SideBySideConfig(Config):
    """Two answers for a user to choose from, the live model's and a candidate's, in random order."""

    share: float = Field(
        default=0.0, ge=0, le=1,
        description="of the users whose requests say that the product can show two answers and who agreed to "
        "evaluation; 0: off",
    )  # fmt: skip
    timeout_s: float = Field(
        default=3, gt=0, description="how much longer than the live model a candidate may take; past it one is shown"
    )


class GatewayConfig(Config):
    """The HTTP service."""

    host: str = Field(default="127.0.0.1", description="bind address; anything but loopback needs api_keys_file")
    port: int = Field(default=8000, ge=1, le=65535)
    num_replicas: int = Field(default=1, ge=1)
    ingress: Literal["proxy", "haproxy"] = Field(
        default="proxy", description="what accepts HTTP: Ray Serve's proxy, or HAProxy straight to the replicas"
    )
    max_ongoing_requests: int = Field(default=256, ge=1)
    routing_poll_s: float = Field(default=0.5, gt=0, description="how often the routing truth is looked at")
    group_commit_ms: float = Field(default=2, ge=0, description="how long a write waits for others to share its sync")
    feedback_token_days: int = Field(default=30, ge=1, description="how long an answer can be rated")
    max_body_bytes: int = Field(default=1_000_000, gt=0)
    api_keys_file: Path | None = Field(
        default=None, description="keys made by `flywheel keys create`; required off loopback"
    )
    api_keys_poll_s: float = Field(default=1, gt=0, description="how often the key file is looked at")
    feedback_items: int = Field(default=256, ge=1, description="reactions in one batch of /v1/feedback at the most")
    shadow_queue: int = Field(default=64, ge=0, description="mirrored requests waiting; past it they are dropped")
    shadow_concurrency: int = Field(default=4, ge=1)
    shadow_timeout_s: float = Field(default=20, gt=0)
    shadow_requests_per_minute: float | None = Field(default=None, gt=0, description="of one candidate, all replicas")
    shadow_tokens_per_minute: float | None = Field(
        default=None, gt=0, description="prompt and answer of one candidate, all replicas together; empty: unbounded"
    )
    shadow_priority: int = Field(default=10, ge=0, description="behind live requests (0) where an engine serves both")
    shadow_answer_bytes: int = Field(default=262_144, gt=0, description="a longer answer of a candidate is an error")
    shadow_memory_bytes: int = Field(default=8_388_608, gt=0, description="text waiting for all candidates together")
    canary_timeout_s: float = Field(
        default=20, gt=0, description="a canary without a (first) answer for so long: the live model answers instead"
    )
    default_max_tokens: int = Field(default=48, gt=0, description="answer length where a request names none")
    write_timeout_s: float = Field(default=30, gt=0, description="a client that reads nothing for this long is let go")
    drain_timeout_s: float = Field(default=20, ge=0, description="a replica that stops waits this long for its answers")
    best_of: BestOfConfig = Field(default_factory=BestOfConfig)
    side_by_side: SideBySideConfig = Field(default_factory=SideBySideConfig)
    ranking: RankingConfig = Field(default_factory=RankingConfig)
    ranker: RankerConfig = Field(default_factory=RankerConfig)

    @model_validator(mode="after")
    def _rankers_have_a_model(self) -> GatewayConfig:
        if "reward" in {self.best_of.ranker, self.ranking.ranker} and not self.ranker.model:
            raise ValueError("ranker 'reward' needs gateway.ranker.model: the folder of a sequence classifier")
        return self


CaptureMode = Literal["durable", "async", "off"]


class CaptureConfig(Config):
    """Outbox, shipping and ingestion."""

    mode: CaptureMode = Field(
        default="durable",
        description="durable: an answer is acknowledged once its row is synced; async: before, so a crash, full disk "
        "or full queue loses rows (the last two are counted); off: nothing is recorded, feedback is refused",
    )
    queue_events: int = Field(default=20_000, ge=2, description="events of a replica that wait for their sync at most")
    queue_mb: float = Field(default=64, gt=0, description="MiB of them; at half of either limit new requests get 429")
    outbox_max_mb: float = Field(
        default=4_096, gt=0, description="MiB that may wait on this machine for the shipper; past it requests get 503"
    )
    min_free_mb: float = Field(default=64, ge=0, description="MiB that stay free on the outbox's disk; below: 503")
    seal_interval_s: float = Field(default=2, gt=0, description="how long events wait before they are shipped")
    segment_rows: int = Field(default=5_000, ge=1, description="events in one landing segment at the most")
    ingest_interval_s: float = Field(default=2, gt=0, description="pause between micro-batches")
    batch_segments: int = Field(default=64, ge=1, description="segments in one micro-batch at the most")
    landing_retention_h: float = Field(default=24, gt=0, description="raw segments older than this are removed")
