"""The command line of a job that runs a turn up to some step; the files under ``jobs/`` name the step."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from pathlib import Path

from flywheel.config import FlywheelConfig, load
from flywheel.config.loader import parse_overrides


def run(description: str | None, *, until: str | None = None) -> None:
    """Parse ``--config`` and ``--set``, run the turn up to ``until`` (none: the whole), write the result as JSON."""
    parser = ArgumentParser(description=description)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    from flywheel.workflow.turn import run_turn

    config = load(FlywheelConfig, options.config, parse_overrides(options.set))
    sys.stdout.write(json.dumps(run_turn(config, until=until), default=str) + "\n")
