"""Step 3: every signal of every candidate, by Ray Data, in one exactly-once commit to ``signals``.

Candidates travel in batches sorted by length and fixed beforehand, so padding, and with it the last bits of
a score, do not depend on scheduling. Pass one runs the reward models in an actor pool; summaries over all
rows (how answers look, who can be trusted) are made from its small results; pass two writes Parquet parts.
"""

from __future__ import annotations

import math
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from flywheel.config import FlywheelConfig, RewardModelConfig
from flywheel.lake.manifests import content_id
from flywheel.lake.store import ObjectStore
from flywheel.lake.tables import Lake, Part
from flywheel.quality.build import BuildResult
from flywheel.quality.folds import Folds, make_folds
from flywheel.quality.pairs import AnswerPool, contrasts
from flywheel.quality.reward import RewardModels
from flywheel.quality.reward_fit import Choice, Scorer
from flywheel.quality.rows import Candidate, prompt_text
from flywheel.quality.signals import agreement, engagement, form, measure, trust
from flywheel.quality.signals.context import Context, Measured
from flywheel.records import Record, Signal
from flywheel.telemetry import Progress, Silent

BATCH_ROWS = 32
PART_BATCHES = 256
RULES_VERSION = "2"
"""Raise it when a signal's definition changes: stored signals of the old definition are then not mixed in."""

MIN_HELD_OUT = 0.6
"""A reward model must rank unseen targets above this share of their contrasts; a coin gives one half."""

SignalTable = dict[str, dict[str, float | None]]


class ScoreResult(Record):
    """``version`` names these signals in the table; ``table_version`` is the Delta version that has them."""

    version: str
    table_version: int
    rows: int
    reused: bool


def score(
    lake: Lake,
    config: FlywheelConfig,
    built: BuildResult,
    models: RewardModels,
    *,
    progress: Progress | None = None,
) -> ScoreResult:
    """Score all candidates (those held out for tuning too). Scores that are in the lake are not made again."""
    progress = progress or Silent()
    version = content_id("signals", built.id, models.id, bool(models.folds), RULES_VERSION)
    app = f"score/{config.flow}/{version}"
    rows = built.rows()
    progress.start("signals", f"{len(rows):,} rows")
    reused = lake.last_committed("signals", app) is not None
    if not reused:
        parts = _parts(lake, config, rows, models=models, version=version, progress=progress)
        lake.commit_files("signals", parts, app=app, version=1)
    progress.finish(f"{len(rows):,} rows" + (", found in the lake" if reused else ""))
    newest = lake.version("signals")
    return ScoreResult(version=version, table_version=newest or 0, rows=len(rows), reused=reused)


def read_signals(lake: Lake, config: FlywheelConfig, scored: ScoreResult) -> SignalTable:
    """``{inference_id: {signal: value}}`` of one scoring."""
    columns = ["inference_id", "signal", "version", "value"]
    table = lake.read("signals", flow=config.flow, columns=columns, at=scored.table_version)
    table = table.filter(pc.field("version") == scored.version)
    found: SignalTable = defaultdict(dict)
    for row in table.to_pylist():
        found[row["inference_id"]][row["signal"]] = row["value"]
    return dict(found)


def _parts(
    lake: Lake, config: FlywheelConfig, rows: list[Candidate], *, models: RewardModels, version: str, progress: Progress
) -> list[Part]:
    if not rows:
        return []
    forms = form.learn(rows)
    folds = make_folds(rows, config.quality.reward.folds)
    supported = agreement.cross_fit(rows, folds, forms)
    rewards = _rewards(lake.store, config.quality.reward, rows, folds=folds, models=models, progress=progress)
    rewards = usable(rewards, better=models.usable)
    measured = [
        Measured(row, **rewards.get(row.inference_id, {}), agreement=support)
        for row, support in zip(rows, supported, strict=True)
    ]
    raters, mean = trust.learn(measured)
    liked = [one.advantage for one in measured if one.row.origin == "liked" and one.advantage is not None]
    context = Context(forms, raters, mean, sorted(liked), engagement.usual_dwell(rows))
    return _write(lake, config, measured, context, version)


def batches(rows: Sequence[Candidate], folds: Folds) -> list[list[int]]:
    """Row indices in batches of one fold and of similar lengths; the same rows give the same batches."""
    order = sorted(range(len(rows)), key=lambda i: (folds.score[i], _length(rows[i]), rows[i].inference_id))
    made: list[list[int]] = []
    for index in order:
        if not made or len(made[-1]) == BATCH_ROWS or folds.score[made[-1][0]] != folds.score[index]:
            made.append([])
        made[-1].append(index)
    return made


def _length(row: Candidate) -> int:
    return len(prompt_text(row.messages)) + len(row.target)


def _rewards(
    store: ObjectStore, config: RewardModelConfig, rows: list[Candidate], *, folds: Folds, models: RewardModels,
    progress: Progress,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    if not models.folds:
        return {}
    import ray

    pool = AnswerPool.of(rows)
    work = [
        {"fold": folds.score[batch[0]], "items": [_choice(rows[index], pool, config) for index in batch]}
        for batch in batches(rows, folds)
    ]
    prefixes = [fold.prefix for fold in models.folds]
    data = ray.data.from_items(work, override_num_blocks=min(len(work), 4 * config.actors)).map(
        RewardActor,  # pyright: ignore[reportArgumentType]  (Ray types functions only)
        fn_constructor_args=(store, prefixes, config.max_length),
        compute=ray.data.ActorPoolStrategy(size=config.actors),
        num_cpus=config.num_cpus,
    )
    scored: dict[str, dict[str, Any]] = {}
    for batch in data.iter_rows():
        scored.update({item["inference_id"]: item["rewards"] for item in batch["items"]})
        progress.update(len(scored), len(rows))
    return scored


def _choice(row: Candidate, pool: AnswerPool, config: RewardModelConfig) -> dict[str, Any]:
    rejected = [row.answer] if row.origin == "correction" else []
    return {
        "inference_id": row.inference_id,
        "messages": [message.model_dump() for message in row.messages],
        "answers": [row.target, *rejected, *contrasts(row, pool, config.contrasts)],
        "corrected": bool(rejected),
    }


class RewardActor:
    """One scoring actor: holds every fold's model (fetched once) and scores one batch a call."""

    def __init__(self, store: ObjectStore, prefixes: list[str], max_length: int) -> None:
        """Remember where the models are; they are loaded when the first batch of their fold arrives."""
        from flywheel.telemetry import apply_environment

        apply_environment()
        self._store, self._prefixes, self._max_length = store, prefixes, max_length
        self._models: dict[int, Scorer] = {}

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Rewards -> margin, preference and advantage of each row."""
        items = batch["items"]
        choices = [Choice(list(item["messages"]), list(item["answers"])) for item in items]
        scored = self._model(int(batch["fold"]))(choices)
        return {
            "items": [
                {"inference_id": item["inference_id"], "rewards": compare(scores, corrected=bool(item["corrected"]))}
                for item, scores in zip(items, scored, strict=True)
            ]
        }

    def _model(self, fold: int) -> Scorer:
        if fold not in self._models:
            with tempfile.TemporaryDirectory(prefix="flywheel-scorer-") as folder:
                self._store.download_folder(self._prefixes[fold], Path(folder))
                self._models[fold] = Scorer(Path(folder), self._max_length)
        return self._models[fold]


def usable(rewards: dict[str, dict[str, Any]], *, better: bool = True) -> dict[str, dict[str, Any]]:
    """Take the judgements of a reward model away that knows nothing about rows it has not seen.

    On unseen rows (all are: cross-fitting) the targets must beat ``MIN_HELD_OUT`` of their contrasts on average, and
    the model's own report must find it ``better`` than the length of an answer and its words (``reward_report``).
    Else only ``wins`` stays, so that it can be seen why; margin and preference then count as not measured.
    """
    wins = [row["wins"] for row in rewards.values() if row["wins"] is not None]
    if better and (not wins or sum(wins) / len(wins) >= MIN_HELD_OUT):
        return rewards
    return {name: {"wins": row["wins"]} for name, row in rewards.items()}


def compare(rewards: Sequence[float], *, corrected: bool) -> dict[str, float | None]:
    """Rewards (target, [served answer,] contrasts...) -> what the signals need.

    ``preference`` is Luce's choice probability of the target, ``advantage`` its reward minus the contrasts' mean,
    ``wins`` the share of contrasts it beats.
    """
    target, others = rewards[0], list(rewards[1:])
    if not others:
        return {"margin": None, "preference": None, "advantage": None, "wins": None}
    return {
        "margin": round(target - others[0], 4) if corrected else None,
        "preference": round(1 / (1 + sum(math.exp(min(50.0, other - target)) for other in others)), 4),
        "advantage": round(target - sum(others) / len(others), 4),
        "wins": round(sum(other < target for other in others) / len(others), 4),
    }


def _write(lake: Lake, config: FlywheelConfig, measured: list[Measured], context: Context, version: str) -> list[Part]:
    """Pass two, in Ray tasks: signals of a slice of rows -> one Parquet part a partition."""
    import ray

    shared = ray.put((lake, context, measured))
    step = BATCH_ROWS * PART_BATCHES
    starts = [{"start": start} for start in range(0, len(measured), step)]

    def write(block: dict[str, Any]) -> dict[str, Any]:
        where, known, rows = ray.get(shared)
        signals = [
            Signal(inference_id=one.row.inference_id, signal=name, version=version, value=value)
            for one in rows[block["start"] : block["start"] + step]
            for name, value in measure(one, known).items()
        ]
        parts = where.write_parts("signals", signals, flow=config.flow)
        return {"parts": [asdict(part) for part in parts]}

    cpus = config.quality.reward.num_cpus
    data = ray.data.from_items(starts, override_num_blocks=len(starts)).map(write, num_cpus=cpus)
    return [Part(**part) for row in data.iter_rows() for part in row["parts"]]
