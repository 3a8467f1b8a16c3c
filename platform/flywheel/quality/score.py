"""Step 3: every signal of every candidate, by Ray Data, in one exactly-once commit to ``signals``.

Signals of a row alone are measured where the rows are read (``signals.light``). For the others, candidates travel in
batches sorted by length and fixed beforehand, so padding, and with it the last bits of a score, do not depend on
scheduling: an actor pool runs the reward models; summaries over all rows (how answers look, who can be trusted) are
made from its small results; a last pass writes Parquet parts. What the lake has in the same version is not measured
again, so a new version of one signal costs that signal.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field

from flywheel.config import FlywheelConfig, RewardModelConfig
from flywheel.lake.manifests import content_id
from flywheel.lake.store import ObjectStore
from flywheel.lake.tables import Lake, Part
from flywheel.quality.build import BuildResult
from flywheel.quality.device import device
from flywheel.quality.folds import Folds, make_folds
from flywheel.quality.pairs import AnswerPool, contrasts
from flywheel.quality.reward import RewardModels
from flywheel.quality.reward_fit import Choice, Scorer
from flywheel.quality.rows import Candidate, prompt_text
from flywheel.quality.signals import SIGNALS, agreement, engagement, form, stored, trust
from flywheel.quality.signals.context import Context, Measured
from flywheel.quality.signals.heavy import MARK, PREDICTED, Instruments, Marker, heavy_values, of_row
from flywheel.quality.signals.light import columns, light_parts
from flywheel.quality.signals.networks.instruments import configured
from flywheel.quality.signals.stored import SignalTable
from flywheel.quality.signals.versions import PEERS, REWARDS, switched_on, versions
from flywheel.records import Record
from flywheel.telemetry import Progress, Silent
from flywheel.text.names import load_names

BATCH_ROWS = 32
PART_BATCHES = 256
MIN_HELD_OUT = 0.6
"""A reward model must rank unseen targets above this share of their contrasts; a coin gives one half."""


class ScoreResult(Record):
    """``version`` names the whole scoring, ``versions`` each signal's values; they are all in ``table_version``."""

    version: str
    table_version: int
    rows: int
    reused: bool
    versions: dict[str, str] = Field(default_factory=dict, description="signal -> version; empty in older scorings")


def score(
    lake: Lake,
    config: FlywheelConfig,
    built: BuildResult,
    models: RewardModels,
    *,
    live_model: Path | None = None,
    marker: Marker | None = None,
    progress: Progress | None = None,
) -> ScoreResult:
    """Score all candidates (those held out for tuning too). Scores that are in the lake are not made again.

    Args:
        lake: holds the scores.
        config: ``quality.signals`` says what is measured.
        built: the candidates.
        models: their reward models.
        live_model: folder of the model whose perplexity is measured, where the configuration names no other.
        marker: the judge, where the configuration wants its marks.
        progress: is told how far it is.
    """
    progress = progress or Silent()
    instruments = Instruments(configured(config, live_model), marker)
    on = switched_on(config)
    settings = _settings(config, instruments)
    identity = versions(on, rows=built.id, models=[models.id, bool(models.folds)], settings=settings)
    count = built.candidates + built.held_out
    progress.start("signals", f"{count:,} rows")
    stale = sorted(identity.keys() - _there(lake, config.flow, identity))
    if stale:
        wanted = {name: identity[name] for name in stale}
        sources = _Sources(models, instruments, progress)
        parts = _parts(lake, config, built, wanted=wanted, sources=sources) if count else []
        app = f"score/{config.flow}/{content_id('scoring', sorted(wanted.values()))}"
        lake.commit_files("signals", parts, app=app, version=1)
    progress.finish(f"{count:,} rows" + ("" if stale else ", found in the lake"))
    newest = lake.version("signals")
    return ScoreResult(
        version=content_id("signals", identity), versions=identity, table_version=newest or 0, rows=count,
        reused=not stale,
    )  # fmt: skip


def read_signals(lake: Lake, config: FlywheelConfig, scored: ScoreResult) -> SignalTable:
    """``{inference_id: {signal: value}}`` of one scoring."""
    return stored.read(lake, config.flow, set(scored.versions.values()) or {scored.version}, scored.table_version)


def _there(lake: Lake, flow: str, identity: Mapping[str, str]) -> set[str]:
    """Signals whose values are stored."""
    found = stored.present(lake, flow, identity.values())
    return {name for name, version in identity.items() if version in found}


def _settings(config: FlywheelConfig, instruments: Instruments) -> dict[str, Any]:
    """What signals depend on beside rows and reward models; see ``signals.versions``."""
    quality = config.quality
    names = load_names(config.privacy.names_file)
    return {
        **{name: one.identity for name, one in instruments.networks.items()},
        MARK: [instruments.marker and instruments.marker.version, quality.signals.judge.max_rows, config.seed],
        PREDICTED: [quality.signals.engagement.model_dump(mode="json"), quality.reward.folds, config.seed],
        "folds": quality.reward.folds,
        "privacy": [config.privacy.model_dump(mode="json", exclude={"names_file"}), sorted(names)],
    }


@dataclass(frozen=True)
class _Sources:
    """What the values of signals come from beside the rows."""

    models: RewardModels
    instruments: Instruments
    progress: Progress


def _parts(
    lake: Lake, config: FlywheelConfig, built: BuildResult, *, wanted: Mapping[str, str], sources: _Sources
) -> list[Part]:
    """Parquet parts with the values of the signals in ``wanted`` (name -> version), not committed."""
    base = Context(privacy=config.privacy, names=load_names(config.privacy.names_file))
    alone = {one.name for one in SIGNALS.values() if one.scope == "row" and one.cost == "free"}
    light = {name: version for name, version in wanted.items() if name in alone}
    rest = {name: version for name, version in wanted.items() if name not in light}
    parts = light_parts(lake, config.flow, built.path(), versions=light, context=base) if light else []
    if rest:
        measured, context = _measured(lake, config, built, wanted=rest, sources=sources)
        parts += _write(lake, config, measured, context=replace(context, privacy=base.privacy), wanted=rest)
    return parts


def _measured(
    lake: Lake, config: FlywheelConfig, built: BuildResult, *, wanted: Mapping[str, str], sources: _Sources
) -> tuple[list[Measured], Context]:
    """What needs all rows: the passes whose results a wanted signal reads, and no other."""
    rows, progress = built.rows(), sources.progress
    reads = {field for name in wanted for field in SIGNALS[name].inputs}
    forms = form.learn(rows)
    folded = reads & (PEERS | REWARDS) or PREDICTED in wanted
    folds = make_folds(rows, config.quality.reward.folds) if folded else Folds([], [])
    supported = agreement.cross_fit(rows, folds, forms) if reads & PEERS else [None] * len(rows)
    rewards: dict[str, dict[str, Any]] = {}
    if reads & REWARDS:
        found = _rewards(lake.store, config.quality.reward, rows, folds=folds, models=sources.models, progress=progress)
        rewards = usable(found, better=sources.models.usable)
    heavy = heavy_values(
        lake, config, rows, wanted=wanted, folds=folds, instruments=sources.instruments, batch=built.id,
        progress=progress,
    )  # fmt: skip
    measured = [
        Measured(row, **rewards.get(row.inference_id, {}), agreement=support, heavy=of_row(heavy, row.inference_id))
        for row, support in zip(rows, supported, strict=True)
    ]
    raters, mean = trust.learn(measured)
    liked = [one.advantage for one in measured if one.row.origin == "liked" and one.advantage is not None]
    return measured, Context(forms, raters, mean, sorted(liked), engagement.usual_dwell(rows))


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
        num_gpus=config.num_gpus or None,
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
    """One scoring actor: holds the folds' models (on a GPU one at a time) and scores one batch a call."""

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
            if device() != "cpu":
                self._models.clear()  # batches come fold by fold
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


def _write(
    lake: Lake, config: FlywheelConfig, measured: list[Measured], *, context: Context, wanted: Mapping[str, str]
) -> list[Part]:
    """The last pass, in Ray tasks: signals of a slice of rows -> one Parquet part a partition."""
    import ray

    shared = ray.put((lake, context))
    step = BATCH_ROWS * PART_BATCHES
    # A task gets its own rows alone: all of them in each would cost memory and time with the square of their number.
    starts = [{"rows": ray.put(measured[start : start + step])} for start in range(0, len(measured), step)]

    def write(block: dict[str, Any]) -> dict[str, Any]:
        where, known = ray.get(shared)
        found = columns(ray.get(block["rows"]), known, list(wanted))
        parts = where.write_parts("signals", stored.as_table(*found, wanted), flow=config.flow)
        return {"parts": [asdict(part) for part in parts]}

    cpus = config.quality.reward.num_cpus
    data = ray.data.from_items(starts, override_num_blocks=len(starts)).map(write, num_cpus=cpus)
    return [Part(**part) for row in data.iter_rows() for part in row["parts"]]
