"""Low-rank adapters on a model, and back.

What is registered is always whole weights; the adapter is kept beside them, so that a candidate can ride on the
engine of its base (``rollout.riders``).
"""

from __future__ import annotations

import json
from pathlib import Path
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


def save_adapters(model: Any, folder: Path) -> None:
    """Write the adapters of a model that has some, as every engine reads them; the same adapters are the same bytes."""
    if not hasattr(model, "merge_and_unload"):
        return
    model.save_pretrained(folder, safe_serialization=True)
    (folder / "README.md").unlink(missing_ok=True)  # a form to fill in
    path = folder / "adapter_config.json"
    settings = json.loads(path.read_text())
    settings["base_model_name_or_path"] = None  # where the base lay while it was trained
    settings = {name: _ordered(value) for name, value in sorted(settings.items())}
    path.write_text(json.dumps(settings, indent=2) + "\n")


def _ordered(value: Any) -> Any:
    """Peft keeps names in sets, which are written in any order."""
    return sorted(value) if isinstance(value, list) and all(isinstance(item, str) for item in value) else value
