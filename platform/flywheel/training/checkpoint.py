"""Checkpoints that resume bit for bit: every rank saves its own part, and nothing is random but the seed.

Data order, learning rate and random numbers are functions of (seed, step, rank), so the only state is
DeepSpeed's (weights, optimizer) and the step. DeepSpeed writes pickles; they stay in the run's storage and
never reach the model folder.
"""

from __future__ import annotations

import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from pydantic import Field

from flywheel.errors import TrainingError
from flywheel.records import Record

TAG = "flywheel"


class State(Record):
    """The part of the state that DeepSpeed does not keep."""

    step: int = 0
    tokens: int = 0
    losses: list[float] = Field(default_factory=list)
    world_size: int = 0


def save(engine: Any, state: State, *, rank: int, metrics: dict[str, float]) -> None:
    """Store a checkpoint; a collective call, each rank gives its part and Ray merges them."""
    import ray.train
    from torch import distributed

    with TemporaryDirectory(prefix="flywheel-checkpoint-") as folder:
        engine.save_checkpoint(folder, tag=TAG, exclude_frozen_parameters=_has_frozen(engine))
        (Path(folder) / _state_file(rank)).write_text(state.model_dump_json())
        distributed.barrier()
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))


def restore(engine: Any, *, rank: int, world_size: int) -> State:
    """Continue from the run's last checkpoint, or start at step 0; a collective call.

    Raises:
        TrainingError: the checkpoint lacks this rank's part.
    """
    import ray.train

    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return State(world_size=world_size)
    with checkpoint.as_directory() as folder:
        path = Path(folder) / _state_file(rank)
        if not path.is_file():
            raise TrainingError(
                f"checkpoint {folder} has no part of rank {rank}; remove the run's folder to start over"
            )
        state = State.model_validate_json(path.read_text())
        loaded, _ = engine.load_checkpoint(folder, tag=TAG, load_module_strict=not _has_frozen(engine))
    if loaded is None:
        raise TrainingError(f"checkpoint {folder} could not be read; remove the run's folder to start over")
    return state


def reseed(seed: int, step: int, rank: int) -> None:
    """Make every random number of this step a function of (seed, step, rank), so none has to be saved."""
    import torch

    mixed = int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1))
    torch.manual_seed(mixed)
    random.seed(mixed)
    np.random.seed(mixed % 2**32)  # noqa: NPY002  (a model's code may use the global generator)


def _has_frozen(engine: Any) -> bool:
    """Adapters are trained and the rest comes from the base: a checkpoint need not repeat it."""
    return any(not parameter.requires_grad for parameter in engine.module.parameters())


def _state_file(rank: int) -> str:
    return f"state_rank{rank}.json"
