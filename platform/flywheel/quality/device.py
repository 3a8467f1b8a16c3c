"""Where a network runs, and in which numbers."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from flywheel.config import RewardModelConfig
from flywheel.errors import ModelError

TRAINING_BYTES = 16
"""A parameter trained in float32 by AdamW: itself, its gradient and two moments."""


def device() -> str:
    """A GPU where Ray gave this task or actor one. Other processes see GPUs too, which are not theirs."""
    import ray
    import torch

    if not torch.cuda.is_available() or not ray.is_initialized():
        return "cpu"
    return "cuda" if ray.get_runtime_context().get_accelerator_ids().get("GPU") else "cpu"


def check_device(config: RewardModelConfig) -> None:
    """Refuse to train on a CPU what was placed on a GPU.

    Raises:
        ModelError: a GPU is asked for and not there.
    """
    if config.num_gpus and device() == "cpu":
        raise ModelError("quality.reward.num_gpus asks for a GPU that torch does not see: install torch with CUDA.")


def mixed(where: str) -> AbstractContextManager[Any]:
    """Bfloat16 for matrix products on a GPU, with weights in float32; on a CPU everything is float32."""
    import torch

    return torch.autocast(where, dtype=torch.bfloat16, enabled=where != "cpu")
