"""The entry point: every expected failure becomes one sentence and an exit code."""

from __future__ import annotations

import errno
import sys

import typer

from flywheel.cli import (
    canary,
    cases,
    curation,
    data,
    evaluation,
    gate,
    goodhart,
    judges,
    keys,
    labels,
    models,
    policy,
    rankers,
    rewards,
    rollout,
    service,
    setup,
    signals,
    turns,
)
from flywheel.cli.output import reserve_stdout
from flywheel.errors import EnvironmentProblem, FlywheelError
from flywheel.telemetry import private_files

app = typer.Typer(
    help="A data flywheel for language models: product traffic in, better models out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for group in (
    setup,
    service,
    keys,
    turns,
    curation,
    canary,
    rollout,
    policy,
    rankers,
    data,
    signals,
    labels,
    cases,
    evaluation,
    judges,
    rewards,
    gate,
    goodhart,
    models,
):
    app.add_typer(group.commands)


def main() -> None:
    """Run one command. Exit codes: 2 for usage, 1 for failure."""
    private_files()
    if "--json" in sys.argv:
        reserve_stdout()
    try:
        app()
    except FlywheelError as error:
        _fail(str(error), error.exit_code)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _fail(str(EnvironmentProblem("The disk is full. Free some space and run the same command again.")), 1)
    except KeyboardInterrupt:
        _fail("Interrupted. What is finished is stored; run the same command to go on.", 130)


def _fail(message: str, code: int) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)
