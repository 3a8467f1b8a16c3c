"""``TrainingConfig`` -> DeepSpeed's configuration dictionary. Pure; the one place that knows its keys."""

from __future__ import annotations

from typing import Any

from flywheel.config import TrainingConfig

SMALLEST_BUCKET = 100_000
LARGEST_BUCKET = 100_000_000


def bucket_size(parameters: int) -> int:
    """Elements of one communication bucket.

    DeepSpeed's default of 5e8 allocates gigabytes that a small model never fills (steps of seconds); a
    bucket as large as the model sends it in one message.
    """
    return min(max(parameters, SMALLEST_BUCKET), LARGEST_BUCKET)


def deepspeed_config(config: TrainingConfig, parameters: int) -> dict[str, Any]:
    """DeepSpeed's settings for one run.

    There is no ``optimizer`` section on purpose: the worker hands over a torch AdamW, so that no C++
    operator has to be compiled on first use.

    Args:
        config: the run's settings.
        parameters: number of the model's parameters.
    """
    return {
        "train_micro_batch_size_per_gpu": config.micro_batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation,
        "gradient_clipping": config.gradient_clipping,
        "bf16": {"enabled": config.dtype == "bfloat16"},
        "zero_optimization": _zero(config.zero_stage, bucket_size(parameters)),
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
        "wall_clock_breakdown": False,
        "checkpoint": {"tag_validation": "Ignore"},
    }


def _zero(stage: int, bucket: int) -> dict[str, Any]:
    zero: dict[str, Any] = {"stage": stage}
    if stage >= 1:
        zero |= {"reduce_bucket_size": bucket, "allgather_bucket_size": bucket, "overlap_comm": False}
    if stage == 3:
        zero |= {"stage3_prefetch_bucket_size": bucket, "stage3_param_persistence_threshold": min(bucket, 100_000)}
    return zero
