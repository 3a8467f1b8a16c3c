"""What a turn measures its candidates with, beside what costs nothing: the live model, and the judge."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from flywheel.errors import UsageError
from flywheel.judging.drift import check_drift, drifted
from flywheel.judging.judge import Judge
from flywheel.quality.signals.heavy import Marker
from flywheel.records import Inference
from flywheel.registry.versions import resolve
from flywheel.workflow.evaluations.judge_runs import NO_JUDGE, configured_version, needs, opened
from flywheel.workflow.turns.context import Context


def live_folder(context: Context, version: str) -> Path | None:
    """The folder of the model that the turn learns from, where a signal asks it; else None."""
    settings = context.config.quality.signals.perplexity
    if not settings.enabled or settings.model is not None:
        return None
    return resolve(context.lake, context.config, version).folder


def marker(context: Context, snapshot: int | None) -> Marker | None:
    """The configured judge and the rows it may see, by consent as it stands now; None where no signal asks it.

    Args:
        context: of the turn.
        snapshot: version of the table of inferences that the turn sees.

    Raises:
        UsageError: no judge is configured, or it changed behind its name.
    """
    lake, config = context.lake, context.config
    if not config.quality.signals.judge.enabled:
        return None
    version = configured_version(lake, config)
    if version is None:
        raise UsageError(NO_JUDGE)
    _refuse(version, drifted(lake, config.flow, version))
    rows = [] if snapshot is None else lake.records("inferences", Inference, flow=config.flow, at=snapshot)
    allowed = [context.consented(rows, purpose) for purpose in sorted(needs(config))]

    @contextlib.contextmanager
    def start() -> Iterator[Judge]:
        with opened(lake, config) as judge:
            _refuse(version, check_drift(lake, config.flow, judge))
            yield judge

    return Marker(version, start, frozenset(set.intersection(*allowed)) if allowed else frozenset())


def _refuse(version: str, reason: str | None) -> None:
    """Marks of two judges must not lie under one version."""
    if reason:
        raise UsageError(
            f"The judge {version} marks no longer, for it changed behind its name: {reason}. "
            "Give judging.revision a new value: that is a new judge."
        )
