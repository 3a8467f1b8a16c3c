"""Low-rank adapters on a model, and back: what is registered and served is always whole weights."""

from __future__ import annotations

from typing import Any

from flywheel.config import LoraConfig
from flywheel.errors import TrainingError


def with_adapters(model: Any, config: LoraConfig, seed: int) -> Any:
    """The model with every weight frozen but new adapters; the same seed gives the same adapters on every rank.

    Raises:
        TrainingError: the model has no layer of the names in ``target_modules``.
    """
    import peft
    import torch

    torch.manual_seed(seed)
    try:
        return peft.get_peft_model(
            model,
            peft.LoraConfig(
                r=config.rank,
                lora_alpha=config.alpha,  # pyright: ignore[reportArgumentType]  (peft divides it; floats are fine)
                lora_dropout=config.dropout,
                target_modules=config.target_modules,
                task_type="CAUSAL_LM",
            ),
        )
    except ValueError as error:
        raise TrainingError(f"training.lora does not fit this model: {error}") from error


def merged(model: Any) -> Any:
    """The model with its adapters added into its weights; a model without adapters as it is."""
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
