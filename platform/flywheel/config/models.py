"""Every setting of Flywheel. One YAML file holds one ``FlywheelConfig`` (or one ``FilterConfig``)."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Config(BaseModel):
    """Base of every section: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class LakeConfig(Config):
    """Where tables, landing segments, manifests, routing and model artifacts live."""

    uri: str | None = Field(
        default=None, description="folder or s3://bucket/prefix; default: <home>/lake. Several nodes need s3://"
    )
    storage_options: dict[str, str] = Field(
        default_factory=dict,
        description="object-store options (aws_endpoint, aws_region, aws_allow_http); keep keys in the environment",
    )


class ClusterConfig(Config):
    """The Ray cluster that the work runs on."""

    address: str | None = Field(default=None, description="address of a running cluster; none: start one here")
    num_cpus: float = Field(default=8, gt=0, description="logical CPUs of a cluster started here (tasks ask fractions)")
    object_store_mb: int = Field(default=512, ge=80, description="object store of a cluster started here, MiB")
    dashboard_port: int = Field(default=8265, description="loopback port of Ray's dashboard and job server")


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

    ranker: Literal["none", "given", "reward"] = Field(
        default="given", description="given: the scores that the product sends; reward: gateway.ranker"
    )
    max_items: int = Field(default=200, ge=1, le=1_000, description="items of one request at the most")


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


class PrivacyConfig(Config):
    """Consent and anonymisation."""

    names_file: Path | None = Field(default=None, description="names to replace, one a line")
    phone_regions: list[str] = Field(default_factory=lambda: ["US", "GB", "DE"], description="for national numbers")
    detectors: list[Literal["email", "phone", "card", "iban", "ip", "name"]] = Field(
        default_factory=lambda: ["email", "iban", "card", "phone", "ip", "name"]
    )


class LabelsConfig(Config):
    """Human labels and how they are split."""

    tune_share: float = Field(default=0.10, gt=0, lt=1, description="share of subjects whose labels tune thresholds")
    audit_share: float = Field(default=0.05, gt=0, lt=1, description="share of subjects for the Goodhart audit")
    gate_share: float = Field(default=0.30, gt=0, lt=1, description="share of subjects for promotion only")
    starter_set: int = Field(default=100, ge=0, description="curated cases wanted before the first training")
    guideline: Path | None = Field(default=None, description="text for reviewers; its hash is kept with each label")


class RewardModelConfig(Config):
    """The learnt reward model: Bradley-Terry on (chosen, rejected) answers to one prompt."""

    base: str | None = Field(default=None, description="model to start from; default: the live model")
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
    shadow_wait_s: float = Field(default=180, ge=0, description="how long a turn waits for shadow pairs")
    gate: GatePolicy = Field(default_factory=GatePolicy)
    gate_file: Path | None = Field(default=None, description="a GatePolicy file; wins over gate")


CALENDAR = {"daily": "0 0 * * *", "weekly": "0 0 * * MON"}
"""Names for the usual entries of ``cadence.every``, as cron fields."""


class CadenceConfig(Config):
    """When a turn is due (`flywheel due`, `flywheel run`). Each reason rests on what the last turn had not seen."""

    new_examples: int = Field(default=200, ge=1, description="liked or corrected answers that make a turn due")
    every: str = Field(
        default="weekly",
        description="none, daily (midnight UTC), weekly (Monday), or five cron fields in UTC; needs something new too",
    )
    quality_window: int = Field(default=200, ge=20, description="ratings in each of the two samples that are compared")
    quality_alpha: float = Field(default=0.01, gt=0, lt=0.5, description="chance of a false alarm in one window")
    cluster_people: int = Field(default=5, ge=2, description="people whose failures share a topic that is new")
    cluster_alpha: float = Field(
        default=0.05, gt=0, lt=0.5, description="chance of finding such a topic where there is none"
    )
    lookback_days: int = Field(default=90, ge=1, description="failures older than this are not compared with")
    min_gap_h: float = Field(default=6, ge=0, description="pause after a turn; doubles with each that promoted nothing")
    max_gap_h: float = Field(default=168, ge=0, description="the pause never grows above this")

    @field_validator("every")
    @classmethod
    def _is_calendar(cls, value: str) -> str:
        from cronsim import CronSim, CronSimError

        fields = CALENDAR.get(value, value)
        try:
            valid = value == "none" or (len(fields.split()) == 5 and next(CronSim(fields, datetime.now(UTC)), None))
        except CronSimError:
            valid = False
        if not valid:
            raise ValueError("not none, daily, weekly or five cron fields such as '30 2 * * MON'")
        return value


class TrackingConfig(Config):
    """MLflow."""

    uri: str | None = Field(default=None, description="default: MLFLOW_TRACKING_URI, else SQLite under <home>")
    experiment: str = "flywheel"


class FlywheelConfig(Config):
    """One flow's whole configuration."""

    flow: str = Field(default="triage", pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    tenant: str = Field(default="default", pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    home: Path = Field(
        default=Path(".flywheel"), description="local state: outboxes, keys, logs; relative to the working folder"
    )
    first_model: str | None = Field(
        default=None, description="what serves first: a folder, a version or 'tiny'; later the routing alone decides"
    )
    seed: int = 0
    lake: LakeConfig = Field(default_factory=LakeConfig)
    cluster: ClusterConfig = Field(default_factory=ClusterConfig)
    engine: EngineConfig = Field(default_factory=EngineConfig)
    gateway: GatewayConfig = Field(default_factory=GatewayConfig)
    capture: CaptureConfig = Field(default_factory=CaptureConfig)
    privacy: PrivacyConfig = Field(default_factory=PrivacyConfig)
    labels: LabelsConfig = Field(default_factory=LabelsConfig)
    quality: QualityConfig = Field(default_factory=QualityConfig)
    sweep: SweepConfig = Field(default_factory=SweepConfig)
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)
    judging: JudgingConfig = Field(default_factory=JudgingConfig)
    rollout: RolloutConfig = Field(default_factory=RolloutConfig)
    cadence: CadenceConfig = Field(default_factory=CadenceConfig)
    tracking: TrackingConfig = Field(default_factory=TrackingConfig)

    def guard_suites(self) -> list[str]:
        """Suites on which a candidate must not lose: those of the evaluation, and those that the policy names."""
        return list(dict.fromkeys([*self.evaluation.guard_suites, *self.rollout.gate.guards]))

    def decisive_suites(self) -> list[str]:
        """Suites that can change a verdict."""
        return [self.evaluation.primary_suite, *self.guard_suites()]

    def home_path(self) -> Path:
        """The home folder, absolute."""
        return self.home.expanduser().resolve()

    def lake_uri(self) -> str:
        """The lake's address: as configured, else a folder under home."""
        if self.lake.uri and "://" in self.lake.uri:
            return self.lake.uri.rstrip("/")
        return str(Path(self.lake.uri).expanduser().resolve() if self.lake.uri else self.home_path() / "lake")
