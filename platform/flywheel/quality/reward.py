"""Step 2: reward models, one a fold, trained in Ray tasks and stored in the lake.

A fold's model never saw the people or the near-duplicate texts of the rows it will score. Folders are
ordinary Hugging Face sequence-classification models in safetensors (or a head over a frozen encoder), under
``rewards/<flow>/<id>/fold-<n>``. The id is the content of data, configuration and base. Each fold is judged on what it
did not see, and the manifest keeps the report: accuracy by slice, calibration, and whether the model is of any use.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from flywheel.config import FlywheelConfig, RewardModelConfig
from flywheel.config.loader import config_hash
from flywheel.errors import ModelError
from flywheel.lake.manifests import Manifest, content_id, write_manifest
from flywheel.lake.store import ObjectStore
from flywheel.lake.tables import Lake
from flywheel.quality.build import BuildResult
from flywheel.quality.folds import Folds, make_folds, place_beside
from flywheel.quality.pairs import AnswerPool, contrasts
from flywheel.quality.reward_choice import Choice, Fit
from flywheel.quality.reward_data import Kind, Preference, slices_of
from flywheel.quality.reward_held_out import Unseen, judge
from flywheel.quality.reward_report import HeldOut, RewardReport, report
from flywheel.quality.rows import Candidate, prompt_text
from flywheel.records import Record, utcnow
from flywheel.telemetry import Progress, Silent
from flywheel.text.hashing import stable_hash

MIN_TRAIN_ROWS = 40
"""With fewer rows in a fold a reward model learns nothing: none is trained, its signals stay unmeasured."""


LARGEST_BASE_GB = 2.0
"""Weights of a base, as they lie on the disk, that CPUs train. Trained whole in float32 with AdamW they take some eight
times as much memory, in each fold at once."""

REPORT_VERSION = 1
"""Raise it when the report changes: models are then judged anew, and not found with a report of the old form."""


class FoldResult(Record):
    """One fold's model: where it is in the lake and how its training went."""

    prefix: str
    pairs: int
    steps: int
    first_loss: float
    last_loss: float
    accuracy: float
    seconds: float
    held_out: list[HeldOut] = Field(default_factory=list, description="on its way to the report, then left out")


class RewardModels(Record):
    """The models of all folds; ``folds`` is empty, with a ``reason``, where there was too little to learn from."""

    id: str
    folds: list[FoldResult]
    reason: str | None = None
    report: RewardReport | None = None

    @property
    def usable(self) -> bool:
        """Whether its word may count: it ranks unseen pairs better than the length of an answer and its words do."""
        return self.report is None or self.report.usable


@dataclass(frozen=True)
class Work:
    """What one fold learns from and what it is judged on."""

    choices: list[Choice]
    unseen: list[Unseen]
    sources: list[str]
    """Inference ids behind ``choices``: erasing a person has to find the models that learnt from them."""


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
    settings = config.quality.reward
    work = fold_work(rows, folds, built.preferences(), settings, config.seed)
    seen = [fold_id([*fold.choices, *(one.choice for one in fold.unseen)]) for fold in work]
    identity = content_id(
        "reward", seen, folder_hash(base), settings.model_dump(mode="json"), config.seed, REPORT_VERSION
    )
    progress.start("reward model", f"{sum(len(fold.choices) for fold in work):,} pairs in {len(work)} folds")
    smallest = min((len(fold.choices) for fold in work), default=0)
    if smallest < MIN_TRAIN_ROWS:
        progress.finish(f"skipped: {smallest} pairs in a fold")
        return RewardModels(
            id=identity, folds=[], reason=f"a fold has {smallest} pairs, at least {MIN_TRAIN_ROWS} needed"
        )
    if not settings.num_gpus:
        refuse_large(base)
    # Any: Ray types positional calls only
    remote: Any = ray.remote(num_cpus=settings.num_cpus, num_gpus=settings.num_gpus, max_retries=2)
    task = remote(_fit_fold)
    futures = [
        task.remote(
            lake.store, f"rewards/{config.flow}/{identity}/fold-{fold}",
            fold=fold, work=one, base=base, config=settings, seed=config.seed + fold,
        )
        for fold, one in enumerate(work)
    ]  # fmt: skip
    done = []
    for number, future in enumerate(futures, start=1):
        done.append(ray.get(future))
        progress.update(number, len(futures), f"loss {done[-1].last_loss:.2f}")
    found = report([pair for fold in done for pair in fold.held_out], seed=config.seed)
    done = [fold.model_copy(update={"held_out": []}) for fold in done]
    models = RewardModels(id=identity, folds=done, report=found)
    data = {
        "base": base.name,
        "base_hash": folder_hash(base),
        "candidates": built.id,
        "folds": [fold.model_dump(mode="json", exclude={"held_out"}) for fold in done],
        "rows": [fold.sources for fold in work],
        "kinds": dict(Counter(preference.kind for preference in built.preferences())),
        "report": None if found is None else found.model_dump(mode="json"),
    }
    write_manifest(lake, Manifest(
        kind="reward", id=identity, flow=config.flow, created=utcnow(), parents=[], code_version=code_version,
        config_hash=config_hash(settings), seed=config.seed, data=data,
    ))  # fmt: skip
    progress.finish(summary(models))
    return models


def refuse_large(base: Path) -> None:
    """Refuse a base that no CPU should train.

    Raises:
        ModelError: says how large it is and what to name instead.
    """
    size = sum(path.stat().st_size for path in base.glob("*.safetensors")) / 1e9
    if size > LARGEST_BASE_GB:
        raise ModelError(
            f"{base.name} has {size:.1f} GB of weights, and on CPUs reward models start from at most "
            f"{LARGEST_BASE_GB:g}. Set quality.reward.base to a small model (`tiny` will do) or an encoder, or "
            "quality.reward.num_gpus to train on GPUs."
        )


def summary(models: RewardModels) -> str:
    """One line for a person who waits."""
    found = models.report
    if found is None:
        return f"pair accuracy {sum(fold.accuracy for fold in models.folds) / len(models.folds):.0%}, on its own rows"
    return f"{found.accuracy.value:.0%} of unseen pairs{'' if found.usable else '; not used: ' + found.reason}"


def fold_work(
    rows: Sequence[Candidate], folds: Folds, preferences: Sequence[Preference], config: RewardModelConfig, seed: int
) -> list[Work]:
    """Every fold's rows: candidates, and the comparisons and thumbs that tie no one to what the fold scores."""
    people = [one.raters for one in preferences]
    placed = place_beside(rows, folds, people, [one.messages for one in preferences])
    made = []
    for fold, learnt in enumerate(folds.train):
        more = sorted(placed.train[fold], key=lambda index: (stable_hash(str(seed), _text(preferences[index])), index))
        more = sorted(more[: config.max_pairs])
        choices = fold_choices(rows, folds, fold, config, seed) + [choice_of(preferences[index]) for index in more]
        unseen = [
            Unseen(choice_of(one), [one.kind], one.slices)
            for one, place in zip(preferences, placed.score, strict=True)
            if place == fold
        ]
        ids = [rows[index].inference_id for index in learnt]
        ids += [source for index in more for source in preferences[index].sources]
        made.append(Work(choices, _unseen(rows, folds, fold, config, seed) + unseen, sorted(set(ids))))
    return made


def choice_of(one: Preference) -> Choice:
    """A pair as the trainer reads it. Votes weigh as their square root: those on one pair are not independent."""
    messages = [message.model_dump() for message in one.messages]
    answers = [answer for answer in (one.chosen, one.rejected) if answer is not None]
    outside = "worse" if one.rejected is None else "better" if one.chosen is None else None
    return Choice(messages, answers, share=one.share, weight=round(one.votes**0.5, 4), outside=outside)


def _text(one: Preference) -> str:
    return "\x1f".join((prompt_text(one.messages), one.chosen or "", one.rejected or ""))


def _unseen(rows: Sequence[Candidate], folds: Folds, fold: int, config: RewardModelConfig, seed: int) -> list[Unseen]:
    """The fold's own candidates, with contrasts from the answers that it learnt from."""
    pool = AnswerPool.of([rows[index] for index in folds.train[fold]])
    made = []
    for row, own in zip(rows, folds.score, strict=True):
        if own != fold or row.held_out is not None:
            continue
        served: list[str] = [row.answer] if row.origin == "correction" else []
        others = contrasts(row, pool, config.negatives, salt=f"train/{seed}")
        kinds: list[Kind] = [*("correction" for _ in served), *("contrast" for _ in others)]
        if kinds:
            choice = Choice([message.model_dump() for message in row.messages], [row.target, *served, *others])
            made.append(Unseen(choice, kinds, slices_of(row.messages, row.tenant, row.target)))
    return made


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
    return content_id("fold", [[one.messages, one.answers, one.share, one.weight, one.outside] for one in choices])


def _fit_fold(
    store: ObjectStore, prefix: str, *, fold: int, work: Work, base: Path, config: RewardModelConfig, seed: int
) -> FoldResult:
    """In a Ray task: train, upload, leave a marker; a finished fold is not trained again."""
    import time

    from flywheel.quality.reward_fit import Scorer, fit
    from flywheel.telemetry import apply_environment

    apply_environment()
    finished = store.get_or_none(f"{prefix}.json")
    if finished is not None:
        return FoldResult.model_validate_json(finished)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="flywheel-reward-") as folder:
        done: Fit = fit(work.choices, base=base, out=Path(folder), config=config, seed=seed)
        held_out = judge(Scorer(Path(folder), config.max_length), work.unseen, work.choices, fold)
        store.upload_folder(Path(folder), prefix)
    seconds = round(time.monotonic() - started, 2)
    result = FoldResult(prefix=prefix, seconds=seconds, held_out=held_out, **done.__dict__)
    store.put(f"{prefix}.json", result.model_dump_json().encode())
    return result
