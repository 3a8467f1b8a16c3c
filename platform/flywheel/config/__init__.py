"""Closed, typed, documented configuration. Imports nothing heavy."""

from flywheel.config.deciding import (
    EvaluationConfig,
    GatePolicy,
    GuardPolicy,
    JudgingConfig,
    MiningConfig,
    RegressionConfig,
    RolloutConfig,
)
from flywheel.config.goodhart import GoodhartConfig
from flywheel.config.grid import EndpointConfig, EvaluationGrid, ParameterGrid
from flywheel.config.learning import (
    FilterConfig,
    LoraConfig,
    QualityConfig,
    RewardModelConfig,
    SweepConfig,
    TrainingConfig,
)
from flywheel.config.loader import config_hash, dump, load, parse_overrides
from flywheel.config.models import (
    CALENDAR,
    CadenceConfig,
    ClusterConfig,
    FlywheelConfig,
    LabelsConfig,
    LakeConfig,
    PrivacyConfig,
    TrackingConfig,
)
from flywheel.config.serving import (
    BestOfConfig,
    CaptureConfig,
    CaptureMode,
    ChoosingConfig,
    EngineConfig,
    GatewayConfig,
    RankerConfig,
    RankingConfig,
)

__all__ = [
    "CALENDAR",
    "BestOfConfig",
    "CadenceConfig",
    "CaptureConfig",
    "CaptureMode",
    "ChoosingConfig",
    "ClusterConfig",
    "EndpointConfig",
    "EngineConfig",
    "EvaluationConfig",
    "EvaluationGrid",
    "FilterConfig",
    "FlywheelConfig",
    "GatePolicy",
    "GatewayConfig",
    "GoodhartConfig",
    "GuardPolicy",
    "JudgingConfig",
    "LabelsConfig",
    "LakeConfig",
    "LoraConfig",
    "MiningConfig",
    "ParameterGrid",
    "PrivacyConfig",
    "QualityConfig",
    "RankerConfig",
    "RankingConfig",
    "RegressionConfig",
    "RewardModelConfig",
    "RolloutConfig",
    "SweepConfig",
    "TrackingConfig",
    "TrainingConfig",
    "config_hash",
    "dump",
    "load",
    "parse_overrides",
]
