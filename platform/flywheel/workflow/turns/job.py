"""What the files under ``jobs/`` share: their configuration, their errors, and the command line of a turn's steps."""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from flywheel.config import FlywheelConfig, load
from flywheel.config.loader import parse_overrides
from flywheel.errors import ConfigError, FlywheelError
from flywheel.telemetry import Silent, private_files

RAY_JOB: Final = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray's job manager sets it for the driver of a submitted job, and for nothing else."""


def run(description: str | None, *, until: str | None = None) -> None:
    """Parse the command line, run the turn up to ``until`` (none: the whole), write the result as JSON."""
    options = _options(description)
    from flywheel.workflow.turns.models import registered
    from flywheel.workflow.turns.turn import run_turn

    with errors_in_a_sentence():
        config = job_config(options)
        variant = registered(config, options.model, Silent()) if options.model else None
        _write(run_turn(config, model=variant, until=until))


def run_if_due(description: str | None) -> None:
    """Parse the same, run one turn if one is due, write the verdict and the turn's result (or null) as JSON."""
    options = _options(description)
    from flywheel.workflow.cadence import autorun

    with errors_in_a_sentence():
        _write(asdict(autorun.run_if_due(job_config(options))))


def _options(description: str | None) -> Namespace:
    parser = ArgumentParser(description=description)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--model", help="first live model, for a flow that has none: a folder, an id, smollm2")
    return parser.parse_args()


def job_config(options: Namespace) -> FlywheelConfig:
    """The configuration of ``--config`` and ``--set``. From now on this process writes files for its user alone.

    Raises:
        ConfigError: also if a submitted job would keep something below its working folder, which Ray removes.
    """
    private_files()
    config = load(FlywheelConfig, options.config, parse_overrides(options.set))
    if getattr(options, "out", None) is not None:
        options.out = options.out.expanduser()  # as a shell would have done
    if RAY_JOB in os.environ:
        _check_lasting("home", str(config.home))
        if config.lake.uri and "://" not in config.lake.uri:
            _check_lasting("lake.uri", config.lake.uri)
        if getattr(options, "out", None) is not None:
            _check_lasting("--out", str(options.out))
    return config


def _check_lasting(key: str, path: str) -> None:
    if not Path(path).expanduser().is_absolute():
        how = f"{key} /some/file" if key.startswith("--") else f"--set {key}=/some/folder"
        raise ConfigError(
            f"{key} is {path}, relative to the working folder, of which a Ray job has a copy that Ray removes; "
            f"give an absolute one: {how}"
        )


@contextmanager
def errors_in_a_sentence() -> Iterator[None]:
    """What went wrong is the last line on standard error, without a stack trace."""
    try:
        yield
    except FlywheelError as error:
        sys.exit(f"error: {error}")


def _write(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value, default=str) + "\n")
