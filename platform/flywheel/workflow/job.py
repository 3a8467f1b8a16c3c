"""The command line of a job that runs a turn up to some step; the files under ``jobs/`` name the step."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flywheel.config import FlywheelConfig, load
from flywheel.config.loader import parse_overrides


def run(description: str | None, *, until: str | None = None) -> None:
    """Parse ``--config`` and ``--set``, run the turn up to ``until`` (none: the whole), write the result as JSON."""
    config = _config(description)
    from flywheel.workflow.turn import run_turn

    _write(run_turn(config, until=until))


def run_if_due(description: str | None) -> None:
    """Parse the same, run one turn if one is due, write the verdict and the turn's result (or null) as JSON."""
    config = _config(description)
    from flywheel.workflow import autorun

    _write(asdict(autorun.run_if_due(config)))


def _config(description: str | None) -> FlywheelConfig:
    parser = ArgumentParser(description=description)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    return load(FlywheelConfig, options.config, parse_overrides(options.set))


def _write(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value, default=str) + "\n")
