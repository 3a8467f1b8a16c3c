"""The sweep as turns use it; the search itself is in ``workflow.sweeps``."""

from __future__ import annotations

from flywheel.workflow.sweeps.outcomes import objective
from flywheel.workflow.sweeps.result import SweepResult
from flywheel.workflow.sweeps.rows import TuneRows, check, tune_rows
from flywheel.workflow.sweeps.second import Proxies
from flywheel.workflow.sweeps.space import name
from flywheel.workflow.sweeps.sweep import sweep

__all__ = ["Proxies", "SweepResult", "TuneRows", "check", "name", "objective", "sweep", "tune_rows"]
