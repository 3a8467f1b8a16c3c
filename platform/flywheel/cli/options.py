"""Options that several commands share, and the configuration they lead to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flywheel.config import FlywheelConfig, load
from flywheel.config.loader import parse_overrides

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="FLYWHEEL_CONFIG",
        help="Configuration; default: flywheel.yaml, configs/local/flywheel.yaml",
    ),
]
SetOption = Annotated[list[str] | None, typer.Option("--set", "-s", help="Override one key: training.epochs=2")]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable result on standard output.")]
SourceArgument = Annotated[
    str, typer.Argument(help="A file, a folder, or s3://bucket/prefix: JSON lines or JSON, gzip or not (see README).")
]
RejectsOption = Annotated[
    Path | None, typer.Option(help="Where bad lines are listed; default: below <home>/rejects.", dir_okay=False)
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Stop at the first bad line, with nothing stored.")]


def load_config(path: Path | None, overrides: list[str] | None) -> FlywheelConfig:
    """The configuration of a command: its file, or the one where people keep it, and what --set says."""
    return load(FlywheelConfig, config_file(path), parse_overrides(overrides or []))


def config_file(path: Path | None) -> Path | None:
    """The file that a command's configuration comes from; None: there is none, and defaults hold."""
    if path is not None:
        return path
    return next((p for p in (Path("flywheel.yaml"), Path("configs/local/flywheel.yaml")) if p.exists()), None)
