"""``flywheel evaluate``: one model on some suites, starting its engine if it does not run."""

from __future__ import annotations

from typing import Any

from flywheel.config import FlywheelConfig
from flywheel.errors import UsageError
from flywheel.evaluation.run import evaluate
from flywheel.lake.tables import open_lake
from flywheel.registry.versions import resolve
from flywheel.rollout import routing
from flywheel.rollout.routing import Variant
from flywheel.telemetry import Progress, Silent
from flywheel.workflow.cluster import connected
from flywheel.workflow.engines import serving
from flywheel.workflow.scorers import make_scorers


def evaluate_model(
    config: FlywheelConfig, *, model: str, suites: list[str], progress: Progress | None = None
) -> dict[str, Any]:
    """Accuracy with interval, per suite.

    Args:
        config: the flow.
        model: a version, a folder, or ``live``.
        suites: names of suites in the lake.
        progress: told about the cases.

    Raises:
        UsageError: no such model, or a suite without cases.
    """
    progress = progress or Silent()
    lake = open_lake(config)
    variant = _variant(config, model)
    progress.start("evaluate", variant.version)
    with connected(config), serving(lake, config, variant):
        run = evaluate(
            lake,
            config,
            version=variant.version,
            suites=suites,
            seed=config.seed,
            scorers=make_scorers(lake, config),
            on_progress=lambda done, total: progress.update(done, total, "cases"),
        )
    if run.missing_suites:
        raise UsageError(f"No cases in: {', '.join(run.missing_suites)}. Import some with `flywheel cases import`.")
    progress.finish(f"{len(run.results):,} cases, {run.reused:,} answered before")
    return {
        "model": variant.version,
        "run_id": run.run_id,
        "suites": {name: score.as_dict() for name, score in run.suites.items()},
        "answered": run.answered,
        "reused": run.reused,
        "seconds": run.seconds,
    }


def _variant(config: FlywheelConfig, model: str) -> Variant:
    lake = open_lake(config)
    if model == "live":
        truth = routing.current(lake.store, config.flow)
        if truth is None:
            raise UsageError(f"The flow '{config.flow}' has no live model; name a version or a folder.")
        return truth.live
    found = resolve(lake, config, model)
    return Variant(version=found.version, folder=str(found.folder))
