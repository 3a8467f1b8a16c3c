"""The training loop: what one rank does, from a folder of weights to a folder of better ones."""

from __future__ import annotations

import importlib
import math
import os
import sys
import time
from typing import Any

from flywheel.training import checkpoint
from flywheel.training.adapters import with_adapters
from flywheel.training.batches import Batch, Layout, Schedule, Step
from flywheel.training.checkpoint import State
from flywheel.training.deepspeed import deepspeed_config
from flywheel.training.examples import load_encoded
from flywheel.training.export import export
from flywheel.training.failures import give_up
from flywheel.training.objectives.sft import step_scale, weighted_loss_sum
from flywheel.training.progress import Progress
from flywheel.training.result import Export, Job
from flywheel.training.schedule import learning_rate


def train_loop(settings: dict[str, Any]) -> None:
    """Ray Train's entry point on every worker.

    Args:
        settings: a ``Job`` as JSON.
    """
    import ray.train

    job = Job.model_validate(settings)
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    prepare_process(job)
    if job.export.exists():  # a worker died after the weights were complete
        return
    engine = build_engine(job)
    state = checkpoint.restore(engine, rank=rank, world_size=world_size)
    schedule = make_schedule(job, rank, world_size)
    state = _run(engine, job, schedule, state, rank)
    if state.step == schedule.steps:
        export(engine.module, job, Export(losses=state.losses, tokens=state.tokens), is_writer=rank == 0)


def prepare_process(job: Job) -> None:
    """Threads and determinism of this process. Before DeepSpeed is imported."""
    import torch

    on_gpu = job.config.gpus_per_worker > 0
    os.environ["DS_ACCELERATOR"] = "cuda" if on_gpu else "cpu"
    if on_gpu:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(job.config.threads)
    torch.use_deterministic_algorithms(True, warn_only=on_gpu)  # not every CUDA kernel has a deterministic twin
    deterministic: Any = torch.utils.deterministic
    deterministic.fill_uninitialized_memory = False  # a debugging aid that costs time in every step


def import_deepspeed() -> Any:
    """DeepSpeed without what a run on this machine never uses.

    Its autotuner imports MLflow if it can (1.2 s a worker), and on CPU it compiles a shared-memory
    all-reduce in C++ on first use (a minute, and a compiler); gloo does that work here.
    """
    hidden = sys.modules.get("mlflow")
    sys.modules["mlflow"] = None  # pyright: ignore[reportArgumentType]  (Python's way to say "not importable")
    try:
        deepspeed = importlib.import_module("deepspeed")
    finally:
        del sys.modules["mlflow"]
        if hidden is not None:
            sys.modules["mlflow"] = hidden
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def build_engine(job: Job) -> Any:
    """Load the base model and hand it to DeepSpeed with a torch AdamW."""
    import torch

    deepspeed = import_deepspeed()
    settings = deepspeed_config(job.config, job.parameters)
    deepspeed.init_distributed(dist_backend="nccl" if job.config.gpus_per_worker > 0 else "gloo", verbose=False)
    model = _load_model(job, settings)
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    wide = [p for p in trained if len(getattr(p, "ds_shape", p.shape)) > 1]
    narrow = [p for p in trained if len(getattr(p, "ds_shape", p.shape)) <= 1]
    groups = [{"params": wide}, {"params": narrow, "weight_decay": 0.0}]  # norms and biases are not decayed
    optimizer = torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=job.config.learning_rate,
        weight_decay=job.config.weight_decay,
        fused=True,
    )
    return deepspeed.initialize(model=model, optimizer=optimizer, config=settings)[0]


def _load_model(job: Job, settings: dict[str, Any]) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    keep = None
    if job.config.zero_stage == 3:  # weights are split while they are read: no rank ever holds them all
        from transformers.integrations.deepspeed import HfDeepSpeedConfig

        keep = HfDeepSpeedConfig(settings)
    model = AutoModelForCausalLM.from_pretrained(
        job.base, dtype=getattr(torch, job.config.dtype), attn_implementation="sdpa", local_files_only=True
    )
    del keep  # transformers holds it weakly, for the time of the call
    return with_adapters(model, job.config.lora, job.seed) if job.config.lora else model


def make_schedule(job: Job, rank: int, world_size: int) -> Schedule:
    """Which examples this rank sees at each step."""
    layout = Layout(world_size, job.config.micro_batch_size, job.config.gradient_accumulation)
    encoded = load_encoded(job.data)
    return Schedule(encoded, layout, epochs=job.config.epochs, seed=job.seed, rank=rank, pad_id=job.pad_id)


def _run(engine: Any, job: Job, schedule: Schedule, state: State, rank: int) -> State:
    """Step until the end, or until the loss is no number any more."""
    losses, tokens = list(state.losses), state.tokens
    progress = Progress(job.progress if rank == 0 else None, schedule.steps)
    for step in schedule.since(state.step):
        started = time.perf_counter()
        loss = optimize(engine, job, schedule, step, rank)
        if not math.isfinite(loss):  # every rank has the same number, so all stop together
            if rank == 0:
                give_up(job, f"the loss became {loss} at step {step.index + 1}")
            break
        losses.append(loss)
        tokens += step.tokens
        progress.add(step.index + 1, step.epoch, loss, step.tokens, time.perf_counter() - started)
        done = step.index + 1
        state = State(step=done, tokens=tokens, losses=losses, world_size=state.world_size)
        if done % job.config.checkpoint_every == 0 and done < schedule.steps:
            checkpoint.save(engine, state, rank=rank, metrics={"step": done, "loss": loss})
    return state


def optimize(engine: Any, job: Job, schedule: Schedule, step: Step, rank: int) -> float:
    """One optimizer step. Returns the loss of the global batch."""
    import torch
    from torch import distributed

    config = job.config
    checkpoint.reseed(job.seed, step.index, rank)
    rate = learning_rate(step.index, steps=schedule.steps, peak=config.learning_rate, warmup_ratio=config.warmup_ratio)
    for group in engine.optimizer.param_groups:
        group["lr"] = rate
    scale = step_scale(step.total_weight, distributed.get_world_size(), config.gradient_accumulation)
    total = torch.zeros(1, dtype=torch.float64, device=engine.device)
    for batch in step.batches:
        loss = _forward(engine, batch)
        engine.backward(loss * scale)
        engine.step()
        total += loss.detach().double() / step.total_weight
    distributed.all_reduce(total)
    return float(total.item())


def _forward(engine: Any, batch: Batch) -> Any:
    import torch

    ids, mask, weights = (torch.from_numpy(array).to(engine.device) for array in (batch.ids, batch.mask, batch.weights))
    return weighted_loss_sum(engine(input_ids=ids, attention_mask=mask, use_cache=False).logits, ids, weights)
