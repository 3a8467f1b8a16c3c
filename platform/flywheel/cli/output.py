"""What commands print: JSON alone on standard output, everything else for people."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, TextIO

from flywheel.errors import FlywheelError
from flywheel.telemetry import Progress, Silent

_json_output: TextIO | None = None


def reserve_stdout() -> None:
    """Only our JSON goes to standard output; what libraries and child processes print goes to standard error."""
    global _json_output  # noqa: PLW0603  (one stream a process, as sys.stdout is)
    sys.stdout.flush()
    _json_output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)


def standard_output() -> TextIO | None:
    """For a child process that prints the JSON in our place; None: it inherits ours."""
    return _json_output


def print_json(value: Any) -> None:
    """A result for machines."""
    print(json.dumps(value, indent=2, default=str), file=_json_output or sys.stdout, flush=True)


def console(stderr: bool = False) -> Any:
    """Where tables are drawn."""
    from rich.console import Console

    return Console(stderr=stderr)


def progress_bar(as_json: bool) -> Progress:
    """Progress on standard error; none beside JSON."""
    if as_json:
        return Silent()
    from flywheel.operate.render import TerminalProgress

    return TerminalProgress(console(stderr=True))


def show_import(report: Any, as_json: bool) -> None:
    """An import's counts. An import of nothing but bad lines is a failure."""
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        print("\n".join([report.summary(), *report.remarks()]))
    if report.all_bad:
        raise FlywheelError(f"{report.source}: every line was rejected. Correct the file, or name its format.")
