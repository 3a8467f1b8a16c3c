"""What ``jobs/evaluate.py`` does with its command line: JSON on standard output, exit code 1 if a cell failed."""

from __future__ import annotations

import json
import sys
from argparse import Namespace

from flywheel.errors import FlywheelError
from flywheel.operate.evaluation_table import check_out, write_table
from flywheel.workflow.cadence.drift_check import check_drift
from flywheel.workflow.evaluations.evaluate import evaluate_grid
from flywheel.workflow.evaluations.grid import grid_of
from flywheel.workflow.turns.job import job_config


def run(options: Namespace) -> None:
    """Run a sweep, or the drift test. Errors are one sentence on standard error."""
    try:
        config = job_config(options)
        if options.drift:
            sys.stdout.write(check_drift(config).model_dump_json() + "\n")
            return
        if options.out is not None:
            check_out(options.out)
        models = options.model or (None if options.grid else ["live"])
        grid = grid_of(
            options.grid, models=models, suites=options.suite, params=options.param, endpoint=options.endpoint
        )
        result = evaluate_grid(config, grid)
        if options.out is not None:
            write_table(result, options.out)
    except FlywheelError as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(json.dumps(result.as_dict(), default=str) + "\n")
    if result.failed:
        sys.exit(1)
