"""A short fine-tune in this very process, in pieces: what a search compares settings or datasets by.

The loop is the one of ``worker``: same engine, batches, learning rate and loss, as one rank of one. What differs is
who calls it: a caller goes to a step, measures, and may go on, so that a bad run ends early.
"""

from __future__ import annotations

import math
import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flywheel.errors import TrainingError
from flywheel.training.batches import Batch, collate
from flywheel.training.checkpoint import TAG, State
from flywheel.training.examples import Encoded
from flywheel.training.objectives.sft import weighted_loss_sum
from flywheel.training.result import Job
from flywheel.training.worker import build_engine, make_schedule, optimize, prepare_process

STATE_FILE = "state.json"


@dataclass(frozen=True)
class Fit:
    """How well a model gives the answers it is asked for."""

    loss: float
    """Nats a token of the answers."""
    exact: float
    """Share of examples whose every answer token is the likeliest one: what greedy decoding would write."""


class Proxy:
    """One run. ``job.config`` must be of one worker; ``steps`` is the length of the learning rate's schedule."""

    def __init__(self, job: Job, *, steps: int) -> None:
        prepare_process(job)
        _alone()
        self.job, self.state = job, State(world_size=1)
        self.engine = build_engine(job)
        self.schedule = make_schedule(job, 0, 1)
        self.schedule.steps = steps

    def advance(self, to: int) -> State:
        """Train until ``to`` steps are done in all.

        Raises:
            TrainingError: the loss is no number any more.
        """
        self.engine.train()
        losses, tokens = list(self.state.losses), self.state.tokens
        for step in self.schedule.since(self.state.step):
            if step.index >= to:
                break
            loss = optimize(self.engine, self.job, self.schedule, step, 0)
            if not math.isfinite(loss):
                raise TrainingError(f"the loss became {loss} at step {step.index + 1}; lower training.learning_rate")
            losses.append(loss)
            tokens += step.tokens
            self.state = State(step=step.index + 1, tokens=tokens, losses=list(losses), world_size=1)
        return self.state

    def fit(self, asked: Sequence[Encoded], *, batch: int = 32) -> Fit:
        """Measure on examples whose loss weights mark the answer; nothing is learnt from them."""
        import torch

        self.engine.eval()
        total, weight, exact = 0.0, 0.0, 0
        order = np.argsort([len(item.ids) for item in asked], kind="stable")
        with torch.no_grad():
            for begin in range(0, len(order), batch):
                made = collate(asked, order[begin : begin + batch], pad_id=self.job.pad_id)
                loss, right = self._measure(made)
                total, exact = total + loss, exact + right
                weight += float(made.weights.sum(dtype=np.float64))
        return Fit(loss=total / max(weight, 1.0), exact=exact / max(1, len(asked)))

    def save(self, folder: Path) -> None:
        """Leave the state in ``folder``, complete or not at all."""
        partial = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
        self.engine.save_checkpoint(str(partial), tag=TAG)
        (partial / STATE_FILE).write_text(self.state.model_dump_json())
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)

    def restore(self, folder: Path) -> bool:
        """Go on from ``folder``; False: nothing is there."""
        path = folder / STATE_FILE
        if not path.is_file():
            return False
        loaded, _ = self.engine.load_checkpoint(str(folder), tag=TAG)
        if loaded is None:
            raise TrainingError(f"checkpoint {folder} could not be read; remove the folder to start over")
        self.state = State.model_validate_json(path.read_text())
        return True

    def _measure(self, batch: Batch) -> tuple[float, int]:
        import torch

        arrays = (batch.ids, batch.mask, batch.weights)
        ids, mask, weights = (torch.from_numpy(array).to(self.engine.device) for array in arrays)
        logits = self.engine(input_ids=ids, attention_mask=mask, use_cache=False).logits
        loss = float(weighted_loss_sum(logits, ids, weights).item())
        likeliest = logits[:, :-1].argmax(-1) == ids[:, 1:]
        return loss, int((likeliest | (weights[:, 1:] == 0)).all(dim=1).sum().item())


def _alone() -> None:
    """A process group of one, which needs no port."""
    from torch import distributed
    from torch._C._distributed_c10d import HashStore  # torch.distributed does not declare it as its own

    os.environ.update({"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"})
    os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"})  # asked for by DeepSpeed, used by nobody
    if not distributed.is_initialized():
        distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
