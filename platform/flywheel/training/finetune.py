"""Fine-tune a model folder on examples: the driver's side of a Ray Train run.

The call is repeatable. A finished run is returned from its completion marker, an interrupted one goes on
from its last checkpoint (also from another driver), a changed one starts anew.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flywheel.config import TrainingConfig
from flywheel.errors import EnvironmentProblem, TrainingError, UsageError
from flywheel.inference.models import check_model_folder
from flywheel.placement import Need, room, unplaceable
from flywheel.records import Example
from flywheel.training.examples import Dropped, Encoded, encode, encoded_once
from flywheel.training.export import count_parameters, finished, publish
from flywheel.training.failures import agreed_failure, explain
from flywheel.training.progress import Watcher
from flywheel.training.result import EXPORT_FILE, Export, Job, TrainResult, fingerprint

POLL_S = "0.5"
"""How often Ray Train looks at its workers; its own 2 s are dead time at the end of a short run."""
BUSY_S = 25.0
"""How long a run waits for workers that would fit if nothing else ran."""
START_ATTEMPTS = 5
"""Times Ray Train may wait (a minute each) for the workers' resources before the run is called off."""
SNAPSHOT = "checkpoint_manager_snapshot.json"
"""Where Ray Train keeps the list of a run's checkpoints, in its folder."""


def finetune(
    config: TrainingConfig,
    *,
    base: Path,
    examples: Sequence[Example],
    out: Path,
    storage: Path,
    run_name: str,
    seed: int,
    on_progress: Callable[[dict[str, Any]], None] | None = None,
) -> TrainResult:
    """Train ``base`` on ``examples`` and leave a servable model folder in ``out``.

    Pretraining is the same call: a base with random weights and ``prompt_loss_weight=1``.

    Args:
        config: settings; ``num_workers`` ranks of ``cpus_per_worker`` (fractions are fine).
        base: model folder (safetensors, tokenizer, chat template), readable by every worker.
        examples: what to learn; those that do not fit ``max_length`` are dropped and reported.
        out: made at the end, in one rename, complete with tokenizer, chat template and completion marker.
        storage: folder shared by all workers, for checkpoints; a run's part of it is removed at the end.
        run_name: the same name with the same inputs resumes.
        seed: of the data order and of every random number.
        on_progress: called from a background thread, a few times a second at the most, with
            ``{"step", "steps", "epoch", "loss", "tokens_per_s", "eta_s"}``.

    Raises:
        ModelError: the base cannot be trained.
        TrainingError: no examples, a loss that is not finite, or workers that failed too often.
        EnvironmentProblem: the cluster cannot hold the workers.
        UsageError: Ray is not connected.
    """
    started = time.monotonic()
    base, out, storage = base.resolve(), out.resolve(), storage.resolve()
    check_model_folder(base)
    if not examples:
        raise TrainingError("there are no examples to train on; collect more feedback or loosen the filter")
    mark = fingerprint(config, base, examples, seed)
    if done := finished(out, mark):
        return done
    name = f"{re.sub(r'[^A-Za-z0-9_.-]', '-', run_name)}-{mark}"
    encoded, dropped, pad_id = encode_for(config, base, examples)
    job = Job(
        config=config,
        base=base,
        folder=storage / name / "flywheel",
        seed=seed,
        pad_id=pad_id,
        parameters=count_parameters(base),
    )
    if not job.export.exists():
        encoded = encoded_once(encoded, job.data)
        _fit(job, storage, name, on_progress)
    summary = Export.model_validate_json((job.export / EXPORT_FILE).read_text())
    result = TrainResult(
        out=out,
        steps=len(summary.losses),
        epochs=config.epochs,
        tokens=summary.tokens,
        examples=len(encoded),
        dropped_too_long=sum(item.reason == "too_long" for item in dropped),
        dropped={item.example_id: item.reason for item in dropped},
        first_loss=summary.losses[0],
        last_loss=summary.losses[-1],
        losses=summary.losses,
        seconds=time.monotonic() - started,
        fingerprint=mark,
    )
    publish(job.export, base, result)
    shutil.rmtree(storage / name, ignore_errors=True)
    return result


def encode_for(
    config: TrainingConfig, base: Path, examples: Sequence[Example]
) -> tuple[list[Encoded], list[Dropped], int]:
    """Examples as the base's tokenizer writes them, those that are left out, and the token that pads.

    Raises:
        TrainingError: none is left.
    """
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(base, local_files_only=True)
    encoded, dropped = encode(
        examples, tokenizer, max_length=config.max_length, prompt_loss_weight=config.prompt_loss_weight
    )
    if not encoded:
        reasons = ", ".join(sorted({item.reason for item in dropped}))
        raise TrainingError(
            f"all {len(dropped)} examples were dropped ({reasons}); raise training.max_length (now {config.max_length})"
        )
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return encoded, dropped, int(pad_id)


def _fit(job: Job, storage: Path, name: str, on_progress: Callable[[dict[str, Any]], None] | None) -> None:
    import ray
    from ray.train import CheckpointConfig, FailureConfig, LoggingConfig, RunConfig, ScalingConfig
    from ray.train import TrainingFailedError as RayTrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    from flywheel.training.worker import train_loop

    config = job.config
    if not ray.is_initialized():
        raise UsageError("training runs on a Ray cluster; call ray.init() before finetune()")
    resources = {"CPU": config.cpus_per_worker} | ({"GPU": config.gpus_per_worker} if config.gpus_per_worker else {})
    _await_room(need_of(config), ray)
    job.failure.unlink(missing_ok=True)
    drop_torn_snapshot(storage / name)
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", POLL_S)
    trainer = TorchTrainer(
        train_loop,
        train_loop_config=job.model_dump(mode="json"),
        torch_config=TorchConfig(backend="nccl" if config.gpus_per_worker else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=config.num_workers, use_gpu=config.gpus_per_worker > 0, resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=name,
            storage_path=str(storage),
            failure_config=FailureConfig(max_failures=config.max_failures, controller_failure_limit=START_ATTEMPTS),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )
    try:
        with Watcher(job.progress, on_progress):
            trainer.fit()
    except RayTrainingFailedError as error:
        raise TrainingError(explain(error, job.log)) from error
    if reason := agreed_failure(job):
        raise TrainingError(reason)
    if not job.export.exists():
        raise TrainingError(f"the workers ended without a model; look at {job.folder} and run the same call again")


def drop_torn_snapshot(folder: Path) -> None:
    """Remove Ray Train's list of checkpoints if a kill or a power cut left it half written.

    Ray writes it in place, and refuses to begin with one that it cannot read. Without it the run starts at step 0 and
    ends with the same weights.
    """
    snapshot = folder / SNAPSHOT
    try:
        whole = isinstance(json.loads(snapshot.read_text()), dict)
    except FileNotFoundError:
        return
    except ValueError:
        whole = False
    if not whole:
        snapshot.unlink()


def need_of(config: TrainingConfig) -> Need:
    """The workers of one run."""
    each = {"CPU": config.cpus_per_worker, "GPU": config.gpus_per_worker}
    kind = "gpus" if config.gpus_per_worker else "cpus"
    return Need("training workers", config.num_workers, each, f"training.num_workers or training.{kind}_per_worker")


def _await_room(need: Need, ray: Any) -> None:
    """Wait a little for resources that others hold; Ray itself would wait for minutes and say nothing."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if problems := unplaceable([need], nodes):
        raise EnvironmentProblem(problems[0])
    deadline = time.monotonic() + BUSY_S
    while room(need.each, list(available_by_node().values())) < need.count:
        if time.monotonic() > deadline:
            raise EnvironmentProblem(
                f"{need.what}: {need.count} are wanted, and for {BUSY_S:g} s other work has held the cluster's "
                "resources (see `ray status`); wait for it and run the same command again"
            )
        time.sleep(0.5)


def available_by_node() -> dict[str, dict[str, float]]:
    """Free logical resources of each living node, by node id."""
    from ray._private.state import available_resources_per_node

    return available_resources_per_node()
