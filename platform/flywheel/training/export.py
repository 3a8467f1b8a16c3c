"""From the workers' memory to a model folder: gather, write safetensors, publish in one rename."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flywheel.errors import ModelError, TrainingError
from flywheel.inference.models import TRAINING_REPORT
from flywheel.training.adapters import merged, save_adapters
from flywheel.training.failures import give_up
from flywheel.training.result import EXPORT_FILE, Export, Job, TrainResult

ADAPTER = "adapter"
"""Folder, in a model folder, of the low-rank adapters that were merged into its weights."""
COPIED = {".json", ".jinja", ".txt", ".model"}
COPIED_NAMES = ("LICENSE", "NOTICE")
NOT_COPIED = {"config.json", TRAINING_REPORT, EXPORT_FILE}


def export(model: Any, job: Job, summary: Export, *, is_writer: bool) -> None:
    """Write the trained weights as safetensors in the base's precision; a collective call.

    ZeRO-3 keeps a slice of every weight on each rank, so they are gathered one parameter at a time, and
    only the writer keeps them. The folder appears complete, by a rename, or not at all.
    """
    from torch import distributed

    temporary = job.export.with_name(f"export-{uuid.uuid4().hex}")
    if is_writer:
        save_adapters(model, temporary / ADAPTER)
    model = merged(model)
    weights = _gather(model, _base_dtype(job.base), keep=is_writer)
    if broken := [name for name, weight in weights.items() if not bool(weight.isfinite().all())]:
        give_up(job, f"the trained weights are not finite ({broken[0]})")
    elif is_writer:
        model.save_pretrained(temporary, state_dict=weights)
        (temporary / EXPORT_FILE).write_text(summary.model_dump_json())
        _sync_folder(temporary)
        temporary.rename(job.export)
    distributed.barrier()


def publish(export_folder: Path, base: Path, result: TrainResult) -> None:
    """Make ``result.out``: weights, the base's tokenizer and chat template, and the completion marker.

    Raises:
        TrainingError: the folder came into being meanwhile.
    """
    out = result.out
    temporary = out.with_name(f".{out.name}-{uuid.uuid4().hex}")
    out.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(export_folder, temporary, ignore=shutil.ignore_patterns(EXPORT_FILE))
    config = json.loads((temporary / "config.json").read_text())
    config["dtype"] = _base_dtype(base)
    (temporary / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    for path in _companions(base):
        if not (temporary / path.name).exists():
            shutil.copyfile(path, temporary / path.name)
    (temporary / TRAINING_REPORT).write_text(result.model_dump_json(indent=1))
    _sync_folder(temporary)
    try:
        temporary.rename(out)  # replaces an empty folder, refuses any other
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise TrainingError(f"{out} appeared while the run was going on; remove it or choose another folder") from error


def finished(out: Path, fingerprint: str) -> TrainResult | None:
    """The result of the run that made ``out``, or None where there is nothing yet.

    Raises:
        TrainingError: the folder holds something else; nothing is overwritten.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    advice = "remove it or choose another folder"
    try:
        result = TrainResult.model_validate_json((out / TRAINING_REPORT).read_text())
    except (OSError, ValidationError) as error:
        raise TrainingError(f"{out} exists and is not the result of a training run; {advice}") from error
    if result.fingerprint != fingerprint:
        raise TrainingError(f"{out} holds the model of a run with another base, data, settings or seed; {advice}")
    return result.model_copy(update={"out": out})


def count_parameters(base: Path) -> int:
    """Number of weights in a folder's safetensors, read from their headers only."""
    from safetensors import SafetensorError, safe_open

    total = 0
    for path in sorted(base.glob("*.safetensors")):
        try:
            with safe_open(path, framework="np") as file:
                for name in file.keys():  # noqa: SIM118  (safe_open is no mapping)
                    size = 1
                    for dimension in file.get_slice(name).get_shape():
                        size *= dimension
                    total += size
        except SafetensorError as error:
            raise ModelError(f"{path} cannot be read as safetensors ({error}); save the model again") from error
    return total


def _gather(model: Any, dtype: str, *, keep: bool) -> dict[str, Any]:
    import torch

    weights: dict[str, Any] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        with _whole(parameter):
            if keep:
                weights[name] = parameter.detach().to("cpu", getattr(torch, dtype), copy=True).contiguous()
    weights |= {name: buffer for name, buffer in model.state_dict().items() if name not in weights and keep}
    return weights


def _whole(parameter: Any) -> Any:
    from contextlib import nullcontext

    if not hasattr(parameter, "ds_id"):
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters([parameter])


def _base_dtype(base: Path) -> str:
    config = json.loads((base / "config.json").read_text())
    name = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    return name if name in {"float32", "bfloat16", "float16"} else "float32"


def _companions(base: Path) -> list[Path]:
    return [
        path
        for path in sorted(base.iterdir())
        if path.is_file()
        and (path.suffix in COPIED or path.name.startswith(COPIED_NAMES))
        and not path.name.endswith(".index.json")
        and path.name not in NOT_COPIED
    ]


def _sync_folder(folder: Path) -> None:
    """Force files and their names to disk, so that the rename that follows publishes whole files."""
    for path in [*folder.rglob("*"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
