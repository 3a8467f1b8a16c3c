"""The command line of a job that runs a turn up to some step; the files under ``jobs/`` name the step."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from pathlib import Path

from flywheel.config import FlywheelConfig, load
from flywheel.config.loader import parse_overrides
from flywheel.errors import FlywheelError
from flywheel.telemetry import Silent


def run(description: str | None, *, until: str | None = None) -> None:
    """Parse the command line, run the turn up to ``until`` (none: the whole), write the result as JSON."""
    parser = ArgumentParser(description=description)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--model", help="first live model, for a flow that has none: a folder, an id, smollm2")
    options = parser.parse_args()
    from flywheel.workflow.models import registered
    from flywheel.workflow.turn import run_turn

    try:
        config = load(FlywheelConfig, options.config, parse_overrides(options.set))
        variant = registered(config, options.model, Silent()) if options.model else None
        result = run_turn(config, model=variant, until=until)
    except FlywheelError as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(json.dumps(result, default=str) + "\n")
