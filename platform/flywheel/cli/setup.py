"""Getting started: version, configuration, a new flow."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from flywheel import __version__
from flywheel.cli.options import ConfigOption, JsonOption, SetOption, load_config
from flywheel.cli.output import print_json

commands = typer.Typer()
PANEL = "Start"


@commands.command(rich_help_panel=PANEL)
def version() -> None:
    """Print the version."""
    print(__version__)


@commands.command("config", rich_help_panel=PANEL)
def show_config(config: ConfigOption = None, set_: SetOption = None) -> None:
    """Print the effective configuration, every key with its value."""
    import yaml

    print(yaml.safe_dump(load_config(config, set_).model_dump(mode="json"), sort_keys=False), end="")


@commands.command(rich_help_panel=PANEL)
def init(
    folder: Annotated[Path, typer.Argument(help="Where; made if it does not exist.")] = Path(),
    *,
    flow: Annotated[str | None, typer.Option(help="Name of the flow.")] = None,
    model: Annotated[
        str | None, typer.Option(help="What serves first: a model folder, a Hugging Face id, a version, or 'tiny'.")
    ] = None,
    lake: Annotated[str | None, typer.Option(help="'local', a folder, or s3://bucket/prefix.")] = None,
    consent: Annotated[str | None, typer.Option(help="Purposes the example client states, or 'none'.")] = None,
    schedule: Annotated[str | None, typer.Option(help="none, daily, weekly, or five cron fields.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing; take the defaults.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Start a flow: its configuration, an example client and a checklist. Asks for what no flag says."""
    from flywheel.operate.init import collect, write

    given = {"flow": flow, "model": model, "lake": lake, "consent": consent, "schedule": schedule}
    ask = sys.stdin.isatty() and not yes and not as_json
    prompt = (lambda question, default: typer.prompt(question, default=default, err=True)) if ask else None
    done = write(folder, collect(given, folder, prompt), force=force)
    if as_json:
        print_json({"folder": str(folder.resolve()), "files": done})
        return
    for name, action in done.items():
        print(f"{action:<9}  {folder / name}{'  (--force overwrites it)' if action == 'kept' else ''}")
    print(f"Next:\n  {'' if folder == Path() else f'cd {folder} && '}flywheel up\n  flywheel status")
