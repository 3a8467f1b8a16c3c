"""What a model folder must hold before an engine is started on it."""

from __future__ import annotations

import json
from pathlib import Path

from flywheel.errors import ModelError

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
TRAINING_REPORT = "training.json"
"""In a model folder that we trained: the ``TrainResult`` of the run, which is whole once this file is there."""
TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")


def check_model_folder(path: Path) -> None:
    """Refuse a folder that no engine could serve, in milliseconds instead of after a start-up.

    Raises:
        ModelError: names what is missing and what to do.
    """
    if not path.is_dir():
        raise ModelError(f"{path} is not a folder; give the folder that save_pretrained() wrote")
    if not (path / "config.json").is_file():
        raise ModelError(f"{path} has no config.json, so it is no model folder; give one that save_pretrained() wrote")
    if not any((path / name).is_file() for name in TOKENIZER_FILES):
        raise ModelError(
            f"{path} has no tokenizer ({', '.join(TOKENIZER_FILES)}); save the tokenizer beside the weights"
        )
    if not any(path.glob("*.safetensors")):
        if any(next(path.glob(pattern), None) for pattern in PICKLES):
            raise ModelError(
                f"{path} holds its weights as pickles only, which can run code when loaded; "
                "convert them with save_pretrained(safe_serialization=True)"
            )
        raise ModelError(f"{path} has no *.safetensors weights; save the model with save_pretrained()")
    if not _has_chat_template(path):
        raise ModelError(f"{path} has no chat template; set tokenizer.chat_template and save the tokenizer again")


def _has_chat_template(path: Path) -> bool:
    if any((path / name).is_file() for name in TEMPLATE_FILES):
        return True
    config = path / "tokenizer_config.json"
    if not config.is_file():
        return False
    try:
        return bool(json.loads(config.read_text()).get("chat_template"))
    except (json.JSONDecodeError, AttributeError) as error:
        raise ModelError(f"{config} is not a JSON object; save the tokenizer again") from error
