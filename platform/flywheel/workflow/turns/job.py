"""The command line of a job that runs a turn up to some step; the files under ``jobs/`` name the step."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flywheel.config import FlywheelConfig, load
from flywheel.config.loader import parse_overrides
from flywheel.errors import FlywheelError
from flywheel.telemetry import Silent


def run(description: str | None, *, until: str | None = None) -> None:
    """Parse the command line, run the turn up to ``until`` (none: the whole), write the result as JSON."""
    options = _options(description)
    from flywheel.workflow.turns.models import registered
    from flywheel.workflow.turns.turn import run_turn

    with _errors_in_a_sentence():
        config = _config(options)
        variant = registered(config, options.model, Silent()) if options.model else None
        _write(run_turn(config, model=variant, until=until))


def run_if_due(description: str | None) -> None:
    """Parse the same, run one turn if one is due, write the verdict and the turn's result (or null) as JSON."""
    options = _options(description)
    from flywheel.workflow.cadence import autorun

    with _errors_in_a_sentence():
        _write(asdict(autorun.run_if_due(_config(options))))


def _options(description: str | None) -> Namespace:
    parser = ArgumentParser(description=description)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--model", help="first live model, for a flow that has none: a folder, an id, smollm2")
    return parser.parse_args()


def _config(options: Namespace) -> FlywheelConfig:
    return load(FlywheelConfig, options.config, parse_overrides(options.set))


@contextmanager
def _errors_in_a_sentence() -> Iterator[None]:
    try:
        yield
    except FlywheelError as error:
        sys.exit(f"error: {error}")


def _write(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value, default=str) + "\n")
