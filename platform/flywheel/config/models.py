"""Every setting of Flywheel. One YAML file holds one ``FlywheelConfig`` (or one ``FilterConfig``)."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from flywheel.config.base import Config
from flywheel.config.deciding import EvaluationConfig, JudgingConfig, RolloutConfig
from flywheel.config.learning import QualityConfig, SweepConfig, TrainingConfig
from flywheel.config.serving import CaptureConfig, EngineConfig, GatewayConfig


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


class PrivacyConfig(Config):
    """Consent and anonymisation."""

    names_file: Path | None = Field(default=None, description="names to replace, one a line; none: no name is replaced")
    phone_regions: list[str] = Field(
        default_factory=lambda: ["US", "GB", "DE"], description="where bare digits may be a phone number"
    )
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
