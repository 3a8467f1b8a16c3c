"""Search the filter's thresholds against human labels: Ray Tune trials, each an Optuna study of its own.

One evaluation is a few array comparisons, so a Tune trial evaluates a batch of proposals (ask and tell in
process) instead of one; trials differ in their sampler's seed. Only labels of the ``tune`` split are used, and
the result names them, so that the gate can refuse them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flywheel.config import FilterConfig, FlywheelConfig, SweepConfig
from flywheel.config.loader import config_hash, dump
from flywheel.errors import UsageError
from flywheel.lake.manifests import Manifest, content_id, write_manifest
from flywheel.lake.tables import Lake
from flywheel.quality.build import BuildResult
from flywheel.quality.filters import Columns, passing
from flywheel.quality.rows import Candidate
from flywheel.quality.score import ScoreResult, SignalTable, read_signals
from flywheel.records import Label, Record, Split, utcnow
from flywheel.review.settle import opinions, says_right
from flywheel.telemetry import Progress, Silent
from flywheel.text.answers import same_answer

VOLUME_TIE = 1e-3
"""Weight of the kept share: decides between configurations that are equally right."""


class SweepResult(Record):
    """The winner, and how it compares with the configuration the sweep started from."""

    best: FilterConfig
    value: float
    start_value: float
    trials: int
    proposals: int
    labels: int
    kept: int
    right_kept: int
    start_right_kept: int
    start_kept: int
    manifest: str | None = None


@dataclass(frozen=True)
class TuneRows:
    """Candidates whose truth a ``tune`` label tells."""

    columns: Columns
    right: NDArray[np.bool_]
    label_ids: list[str]


def tune_rows(
    rows: Sequence[Candidate], signals: SignalTable, labels: Sequence[Label], *, split: Split = "tune"
) -> TuneRows:
    """Join labels of a split to candidates; the sweep knows `tune` only.

    A target is right when it equals what the label expects: the served answer (accept) or the correction; JSON by
    value. A rejection or a low rating makes the served answer wrong, and says nothing about a user's correction of
    it: such rows are left out, as are disputed ones that nobody adjudicated. A verdict beats a rating.
    """
    known = {row.inference_id: row for row in rows}
    said = opinions(label for label in labels if label.split == split and label.inference_id in known)
    counting = {matter: one.counts for matter, one in said.items()}
    truths: dict[str, tuple[bool, str]] = {}
    for question in ("rate", "judge"):
        for matter, label in counting.items():
            right = _is_right(known[matter.inference_id], label) if label and matter.question == question else None
            if label is not None and right is not None:
                truths[matter.inference_id] = right, label.label_id
    order = sorted(truths)
    return TuneRows(
        Columns.of([known[row] for row in order], signals),
        np.array([truths[row][0] for row in order], dtype=bool),
        [truths[row][1] for row in order],
    )


def objective(rows: TuneRows, config: FilterConfig, wrong_row_cost: float) -> float:
    """(right kept - cost * wrong kept) / right rows, at most 1, plus a tiny reward for volume."""
    kept = passing(rows.columns, config)
    right, wrong = int((kept & rows.right).sum()), int((kept & ~rows.right).sum())
    return (right - wrong_row_cost * wrong) / max(1, int(rows.right.sum())) + VOLUME_TIE * float(kept.mean())


def sweep(
    lake: Lake,
    config: FlywheelConfig,
    built: BuildResult,
    scored: ScoreResult,
    labels: Sequence[Label],
    *,
    out: Path,
    code_version: str = "unknown",
    progress: Progress | None = None,
) -> SweepResult:
    """Search, write the winner to ``out`` (a file ``quality.filter_file`` reads) and its manifest to the lake.

    The configured filter is among the proposals, so the winner is never worse on these labels.

    Raises:
        UsageError: fewer matched labels than ``sweep.min_tune_labels``, or they are all right or all wrong.
    """
    rows = tune_rows(built.rows(), read_signals(lake, config, scored), labels)
    check(rows, config.sweep)
    progress = progress or Silent()
    settings = config.sweep
    asked = settings.trials * settings.proposals_per_trial
    progress.start("sweep", f"{asked} proposals, {len(rows.label_ids)} labels")
    found = search(rows, config.quality.filter, settings, seed=config.seed)
    best = max(found, key=lambda one: (round(one[0], 9), -one[1]))[2]
    best = name(best)
    dump(best, out)
    result = _result(rows, best, config, evaluated=asked)
    manifest = _manifest(result, rows, scored, config, code_version)
    write_manifest(lake, manifest)
    progress.finish(f"right kept {result.start_right_kept}/{result.start_kept} -> {result.right_kept}/{result.kept}")
    return result.model_copy(update={"manifest": manifest.ref})


def check(rows: TuneRows, config: SweepConfig) -> None:
    """Refuse a search that the labels cannot decide; a turn then goes on with the configured filter.

    Raises:
        UsageError: says how many labels are missing.
    """
    count = len(rows.label_ids)
    if count < config.min_tune_labels:
        raise UsageError(
            f"{count} tune labels match a candidate, the sweep needs {config.min_tune_labels}: "
            "label more answers (flywheel label), or lower sweep.min_tune_labels."
        )
    if rows.right.all() or not rows.right.any():
        raise UsageError(f"all {count} tune labels agree, so every threshold looks the same: label more answers.")


def search(
    rows: TuneRows, start: FilterConfig, config: SweepConfig, *, seed: int
) -> list[tuple[float, int, FilterConfig]]:
    """Run the Tune trials; (value, trial, best configuration) of each."""
    import os
    import tempfile

    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the newer reporter prints tables even at verbose=0
    import ray
    from ray import tune

    shared = ray.put((rows, start))

    def trial(params: dict[str, Any]) -> dict[str, Any]:
        some_rows, some_start = ray.get(shared)
        value, best = study(some_rows, some_start, config, seed=seed * 1000 + params["trial"])
        return {"value": value, "filter": best.model_dump_json()}

    with tempfile.TemporaryDirectory(prefix="flywheel-sweep-") as folder:
        results = tune.Tuner(
            tune.with_resources(trial, {"cpu": 0.5}),
            param_space={"trial": tune.grid_search(list(range(config.trials)))},
            tune_config=tune.TuneConfig(metric="value", mode="max", max_concurrent_trials=config.max_concurrent),
            run_config=tune.RunConfig(name="sweep", storage_path=folder, verbose=0),
        ).fit()
    failed = [result.error for result in results if result.error]
    if failed:
        raise failed[0]
    return [
        (float(row.metrics["value"]), int(row.config["trial"]), FilterConfig.model_validate_json(row.metrics["filter"]))
        for row in results
        if row.metrics is not None and row.config is not None
    ]


def study(rows: TuneRows, start: FilterConfig, config: SweepConfig, *, seed: int) -> tuple[float, FilterConfig]:
    """One trial: TPE over the thresholds, the starting configuration first; no Ray in it."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = _space()
    searcher = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    best, best_value = start, objective(rows, start, config.wrong_row_cost)
    for _ in range(config.proposals_per_trial - 1):
        asked = searcher.ask(space)
        proposal = start.model_copy(update=asked.params)
        value = objective(rows, proposal, config.wrong_row_cost)
        searcher.tell(asked, value)
        if value > best_value:
            best, best_value = proposal, value
    return best_value, best


def name(config: FilterConfig) -> FilterConfig:
    """The same thresholds, rounded, under a version that is their content hash."""
    values = config.model_dump().items()
    rounded = {key: round(value, 4) if isinstance(value, float) else value for key, value in values}
    plain = FilterConfig.model_validate({**rounded, "version": "default"})
    return plain.model_copy(update={"version": f"sweep-{config_hash(plain)[:12]}"})


def _space() -> dict[str, Any]:
    from optuna.distributions import FloatDistribution, IntDistribution

    return {
        "min_reward_margin": FloatDistribution(-2.0, 4.0),
        "min_preference": FloatDistribution(0.0, 0.9),
        "min_agreement": FloatDistribution(0.0, 0.9),
        "min_liked_reward": FloatDistribution(0.0, 0.5),
        "min_rater_trust": FloatDistribution(0.0, 0.7),
        "min_votes": IntDistribution(0, 4),
    }


def _is_right(row: Candidate, label: Label) -> bool | None:
    """Whether the row's target is right; None: the label does not tell."""
    if label.correction is not None:
        return same_answer(row.target, label.correction)
    if same_answer(row.target, row.answer):
        return says_right(label)
    return False if label.kind == "accept" else None


def _result(rows: TuneRows, best: FilterConfig, config: FlywheelConfig, *, evaluated: int) -> SweepResult:
    start = config.quality.filter
    before, after = passing(rows.columns, start), passing(rows.columns, best)
    return SweepResult(
        best=best,
        value=objective(rows, best, config.sweep.wrong_row_cost),
        start_value=objective(rows, start, config.sweep.wrong_row_cost),
        trials=config.sweep.trials,
        proposals=evaluated,
        labels=len(rows.label_ids),
        kept=int(after.sum()),
        right_kept=int((after & rows.right).sum()),
        start_kept=int(before.sum()),
        start_right_kept=int((before & rows.right).sum()),
    )


def _manifest(
    result: SweepResult, rows: TuneRows, scored: ScoreResult, config: FlywheelConfig, code_version: str
) -> Manifest:
    data = {
        "label_ids": rows.label_ids,
        "inferences": rows.columns.ids,
        "signals": scored.version,
        **result.model_dump(mode="json", exclude={"manifest"}),
    }
    identity = content_id("filter", result.best.version, rows.label_ids, scored.version)
    return Manifest(
        kind="filter", id=identity, flow=config.flow, created=utcnow(), parents=[], code_version=code_version,
        config_hash=config_hash(config.sweep), seed=config.seed, data=data,
    )  # fmt: skip
