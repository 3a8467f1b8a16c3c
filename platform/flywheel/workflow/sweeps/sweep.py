"""Search the filter's thresholds against human labels: Ray Tune trials of Optuna's proposals, then proxy fine-tunes.

Only labels of the ``tune`` split are used, and the result names them, so that the gate can refuse them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flywheel.config import FilterConfig, FlywheelConfig
from flywheel.config.loader import config_hash
from flywheel.errors import UsageError
from flywheel.lake.manifests import Manifest, content_id, write_manifest
from flywheel.lake.tables import Lake
from flywheel.quality.build import BuildResult
from flywheel.quality.score import ScoreResult, read_signals
from flywheel.records import Label, utcnow
from flywheel.telemetry import Progress, Silent
from flywheel.workflow.sweeps import finalists
from flywheel.workflow.sweeps.outcomes import Outcome, evaluate, value
from flywheel.workflow.sweeps.pareto import front
from flywheel.workflow.sweeps.picture import pareto_svg
from flywheel.workflow.sweeps.records import Records
from flywheel.workflow.sweeps.result import Point, SweepResult, save_filter, save_picture
from flywheel.workflow.sweeps.rows import TuneRows, check, tune_rows, with_volume
from flywheel.workflow.sweeps.second import Proxies, second_level
from flywheel.workflow.sweeps.space import name
from flywheel.workflow.sweeps.trials import search

ELSEWHERE = {"trials", "max_concurrent", "num_cpus", "in_turn", "min_tune_labels", "proxy"}
"""Settings that change no batch: with another value of these, finished batches are still those of this sweep."""


def sweep(
    lake: Lake,
    config: FlywheelConfig,
    built: BuildResult,
    scored: ScoreResult,
    labels: Sequence[Label],
    *,
    out: Path,
    code_version: str = "unknown",
    parents: Sequence[str] = (),
    proxies: Proxies | None = None,
    restart: bool = False,
    progress: Progress | None = None,
) -> SweepResult:
    """Search, write the winner to ``out`` (a file ``quality.filter_file`` reads) and its manifest to the lake.

    The configured filter is among the proposals, so the winner is never worse on these labels. Called again after
    whatever end, it goes on behind the trials that were finished.

    Args:
        lake: where candidates' signals are, and where records and manifest go.
        config: the flow.
        built: candidates.
        scored: their signals.
        labels: of any split; those of ``tune`` count.
        out: the winner's file.
        code_version: for the manifest.
        parents: manifests and table versions that the signals come from.
        proxies: for the second level, where ``sweep.proxy.finalists`` asks for one.
        restart: forget finished trials of this very sweep.
        progress: told about batches and rungs.

    Raises:
        UsageError: fewer matched labels than ``sweep.min_tune_labels``, or they are all right or all wrong.
    """
    candidates, signals = built.rows(), read_signals(lake, config, scored)
    rows = tune_rows(candidates, signals, labels)
    check(rows, config.sweep)
    rows = with_volume(rows, candidates, signals)
    progress = progress or Silent()
    settings, start = config.sweep, config.quality.filter
    records = Records(lake.store, config.flow, _identity(rows, config, scored))
    if restart:
        records.forget()
    progress.start("sweep", f"{settings.trials * settings.proposals_per_trial} proposals, {len(rows.label_ids)} labels")
    trials = search(rows, start, settings, records, seed=config.seed, progress=progress)
    outcomes = [one for trial in trials for one in trial.outcomes]
    filters = _filters(outcomes, rows, config)
    proxied, why = None, None
    if proxies is not None and settings.proxy.finalists > 1:
        try:
            proxied = second_level(
                proxies, filters, config, records,
                candidates=candidates, signals=signals, labels=labels, progress=progress,
            )  # fmt: skip
        except UsageError as error:  # the first level's answer stands, and says why it is only that
            why = str(error)
    best = filters[0] if proxied is None else next(one for one in filters if one.version == proxied.winner)
    result = _result(best, outcomes, rows, config, records.sweep).model_copy(
        update={"proxies": proxied, "no_proxies": why}
    )
    save_filter(result, out)
    picture = pareto_svg(result, [(one.volume, one.quality) for one in outcomes])
    save_picture(picture, out)
    manifest = _manifest(result, rows, scored, config, code_version=code_version, parents=parents)
    lake.store.put(f"filters/{config.flow}/{manifest.id}.svg", picture.encode())
    write_manifest(lake, manifest)
    progress.finish(f"right kept {result.start_right_kept}/{result.start_kept} -> {result.right_kept}/{result.kept}")
    return result.model_copy(update={"manifest": manifest.ref})


def _identity(rows: TuneRows, config: FlywheelConfig, scored: ScoreResult) -> str:
    """The same data, start and settings of a batch: the same sweep, whose finished batches count."""
    settings = config.sweep.model_dump(mode="json", exclude=ELSEWHERE)
    truth = list(zip(rows.columns.ids, rows.right.tolist(), strict=True))
    counted = [] if rows.volume is None else rows.volume.ids
    start = config.quality.filter.model_dump(mode="json")
    return content_id("sweep", config.flow, truth, counted, scored.version, start, settings, config.seed)


def _filters(outcomes: Sequence[Outcome], rows: TuneRows, config: FlywheelConfig) -> list[FilterConfig]:
    """The first level's winner, then whoever else takes part in the second; none twice."""
    cost, start = config.sweep.wrong_row_cost, config.quality.filter
    chosen = [finalists.best(outcomes, rows, cost)]
    if config.sweep.proxy.finalists > 1:
        chosen += finalists.finalists(outcomes, rows, cost, config.sweep.proxy.finalists)
    named = (name(start.model_copy(update=one.params)) for one in chosen)
    return list({one.version: one for one in named}.values())


def _result(
    best: FilterConfig, outcomes: Sequence[Outcome], rows: TuneRows, config: FlywheelConfig, sweep_id: str
) -> SweepResult:
    cost, start = config.sweep.wrong_row_cost, config.quality.filter
    before, after = evaluate(rows, start, [{}])[0], evaluate(rows, best, [{}])[0]
    return SweepResult(
        sweep=sweep_id,
        best=best,
        value=value(after, rows, cost),
        start_value=value(before, rows, cost),
        trials=config.sweep.trials,
        proposals=len(outcomes),
        labels=len(rows.label_ids),
        kept=after.kept,
        right_kept=after.right_kept,
        volume=after.volume,
        start_kept=before.kept,
        start_right_kept=before.right_kept,
        start_volume=before.volume,
        front=[Point.of(one) for one in front(outcomes)],
    )


def _manifest(
    result: SweepResult,
    rows: TuneRows,
    scored: ScoreResult,
    config: FlywheelConfig,
    *,
    code_version: str,
    parents: Sequence[str],
) -> Manifest:
    data = {
        "label_ids": rows.label_ids,
        "inferences": rows.columns.ids,
        "signals": scored.version,
        **result.model_dump(mode="json", exclude={"manifest"}),
    }
    identity = content_id("filter", result.best.version, rows.label_ids, scored.version, result.proxies, result.front)
    return Manifest(
        kind="filter", id=identity, flow=config.flow, created=utcnow(), parents=list(parents),
        code_version=code_version, config_hash=config_hash(config.sweep), seed=config.seed, data=data,
    )  # fmt: skip
