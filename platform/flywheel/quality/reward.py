"""Step 2: reward models, one a fold, trained in Ray tasks and stored in the lake.

A fold's model never saw the people or the near-duplicate texts of the rows it will score. Folders are
ordinary Hugging Face sequence-classification models in safetensors, under ``rewards/<flow>/<id>/fold-<n>``.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flywheel.config import FlywheelConfig, RewardModelConfig
from flywheel.config.loader import config_hash
from flywheel.lake.manifests import Manifest, content_id, write_manifest
from flywheel.lake.store import ObjectStore
from flywheel.lake.tables import Lake
from flywheel.quality.build import BuildResult
from flywheel.quality.folds import Folds, make_folds
from flywheel.quality.pairs import AnswerPool, contrasts
from flywheel.quality.reward_fit import Choice, Fit
from flywheel.quality.rows import Candidate
from flywheel.records import Record, utcnow
from flywheel.telemetry import Progress, Silent
from flywheel.text.hashing import stable_hash

MIN_TRAIN_ROWS = 40
"""With fewer rows in a fold a reward model learns nothing: none is trained, its signals stay unmeasured."""


class FoldResult(Record):
    """One fold's model: where it is in the lake and how its training went."""

    prefix: str
    pairs: int
    steps: int
    first_loss: float
    last_loss: float
    accuracy: float
    seconds: float


class RewardModels(Record):
    """The models of all folds; ``folds`` is empty, with a ``reason``, where there was too little to learn from."""

    id: str
    folds: list[FoldResult]
    reason: str | None = None


def train_reward(
    lake: Lake,
    config: FlywheelConfig,
    built: BuildResult,
    *,
    base: Path,
    code_version: str,
    progress: Progress | None = None,
) -> RewardModels:
    """Train one model a fold from the model folder ``base``; a rerun finds the finished folds in the lake.

    Raises:
        ModelError: ``base`` cannot be used as a reward model.
        ray.exceptions.RayTaskError: a fold failed for another reason.
    """
    import ray

    progress = progress or Silent()
    rows = built.rows()
    folds = make_folds(rows, config.quality.reward.folds)
    work = [fold_choices(rows, folds, fold, config.quality.reward, config.seed) for fold in range(len(folds.train))]
    settings = config.quality.reward
    identity = content_id(
        "reward", [fold_id(fold) for fold in work], folder_hash(base), settings.model_dump(mode="json"), config.seed
    )
    progress.start("reward model", f"{sum(map(len, work)):,} pairs in {len(work)} folds")
    smallest = min(map(len, work), default=0)
    if smallest < MIN_TRAIN_ROWS:
        progress.finish(f"skipped: {smallest} pairs in a fold")
        return RewardModels(
            id=identity, folds=[], reason=f"a fold has {smallest} pairs, at least {MIN_TRAIN_ROWS} needed"
        )
    remote: Any = ray.remote(num_cpus=settings.num_cpus, max_retries=2)  # Any: Ray types positional calls only
    task = remote(_fit_fold)
    futures = [
        task.remote(
            lake.store, f"rewards/{config.flow}/{identity}/fold-{fold}",
            choices=choices, base=base, config=settings, seed=config.seed + fold,
        )
        for fold, choices in enumerate(work)
    ]  # fmt: skip
    done = []
    for number, future in enumerate(futures, start=1):
        done.append(ray.get(future))
        progress.update(number, len(futures), f"loss {done[-1].last_loss:.2f}")
    models = RewardModels(id=identity, folds=done)
    data = {
        "base": base.name,
        "candidates": built.id,
        "folds": [fold.model_dump(mode="json") for fold in done],
        "rows": [[rows[index].inference_id for index in train] for train in folds.train],
    }
    write_manifest(lake, Manifest(
        kind="reward", id=identity, flow=config.flow, created=utcnow(), parents=[], code_version=code_version,
        config_hash=config_hash(settings), seed=config.seed, data=data,
    ))  # fmt: skip
    progress.finish(f"pair accuracy {sum(fold.accuracy for fold in done) / len(done):.0%}")
    return models


def fold_choices(
    rows: Sequence[Candidate], folds: Folds, fold: int, config: RewardModelConfig, seed: int
) -> list[Choice]:
    """A fold's training rows: the target first, then the corrected answer, then answers to other prompts."""
    chosen = sorted(folds.train[fold], key=lambda index: stable_hash(str(seed), rows[index].inference_id))
    chosen = sorted(chosen[: config.max_pairs])
    pool = AnswerPool.of([rows[index] for index in folds.train[fold]])
    made = []
    for index in chosen:
        row = rows[index]
        rejected = [row.answer] if row.origin == "correction" else []
        rejected += contrasts(row, pool, config.negatives, salt=f"train/{seed}")
        if rejected:
            made.append(Choice([message.model_dump() for message in row.messages], [row.target, *rejected]))
    return made


def folder_hash(folder: Path) -> str:
    """Content of a model folder, so that the same model at another path is the same parent."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        digest.update(path.name.encode())
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def fold_id(choices: Sequence[Choice]) -> str:
    """Content of one fold's training rows."""
    return content_id("fold", [[choice.messages, choice.answers] for choice in choices])


def _fit_fold(
    store: ObjectStore, prefix: str, *, choices: list[Choice], base: Path, config: RewardModelConfig, seed: int
) -> FoldResult:
    """In a Ray task: train, upload, leave a marker; a finished fold is not trained again."""
    import time

    from flywheel.quality.reward_fit import fit
    from flywheel.telemetry import apply_environment

    apply_environment()
    finished = store.get_or_none(f"{prefix}.json")
    if finished is not None:
        return FoldResult.model_validate_json(finished)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="flywheel-reward-") as folder:
        done: Fit = fit(choices, base=base, out=Path(folder), config=config, seed=seed)
        store.upload_folder(Path(folder), prefix)
    result = FoldResult(prefix=prefix, seconds=round(time.monotonic() - started, 2), **done.__dict__)
    store.put(f"{prefix}.json", result.model_dump_json().encode())
    return result
