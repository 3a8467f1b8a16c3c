"""Is the filter right about labels that nothing was tuned on? Goodhart's law: what is optimised stops measuring."""

from __future__ import annotations

import numpy as np

from flywheel.config import FilterConfig, FlywheelConfig
from flywheel.lake.tables import Lake
from flywheel.quality.build import BuildResult
from flywheel.quality.filters import passing
from flywheel.quality.score import ScoreResult, read_signals
from flywheel.review.labels import read_labels
from flywheel.rollout.gate import Agreement
from flywheel.statistics.bootstrap import mean_interval
from flywheel.workflow.sweeps.rows import tune_rows


def audit_agreement(
    lake: Lake, config: FlywheelConfig, built: BuildResult, scored: ScoreResult, used: FilterConfig
) -> Agreement | None:
    """How often ``used`` keeps what an ``audit`` label calls right, and drops what it calls wrong.

    Subjects of these labels are scored and never trained on. None without a labelled row.
    """
    rows = built.rows()
    judged = tune_rows(rows, read_signals(lake, config, scored), read_labels(lake, config.flow), split="audit")
    if not judged.label_ids:
        return None
    subjects = {row.inference_id: row.subject for row in rows}
    found = mean_interval(
        np.asarray(passing(judged.columns, used) == judged.right, dtype=np.float64),
        resamples=config.evaluation.resamples,
        confidence=config.evaluation.confidence,
        seed=config.seed,
        clusters=[subjects[inference_id] for inference_id in judged.columns.ids],
    )
    return Agreement(n=found.n, rate=found.mean, low=found.low, high=found.high)
