"""The Goodhart monitor: look at every turn's signals, settle an alarm."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from flywheel.cli.options import ConfigOption, JsonOption, SetOption, load_config
from flywheel.cli.output import console, print_json

commands = typer.Typer()
PANEL = "Turns"


@commands.command(rich_help_panel=PANEL)
def goodhart(
    *,
    html: Annotated[bool, typer.Option("--html", help="A page with pictures, below <home>/reports.")] = False,
    out: Annotated[Path | None, typer.Option(help="The page, elsewhere.")] = None,
    settle: Annotated[
        str | None, typer.Option(help="What was found or done about the alarms that stand; turns may go on then.")
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Do the signals that rows are chosen by still mean quality? Each against the audit labels, turn by turn."""
    from flywheel.lake.tables import open_lake
    from flywheel.operate.goodhart_table import show
    from flywheel.workflow.turns.goodhart.check import check_goodhart
    from flywheel.workflow.turns.goodhart.page import page_path, write_page
    from flywheel.workflow.turns.goodhart.stored import settle as settle_alarms

    settings = load_config(config, set_)
    lake = open_lake(settings)
    found = check_goodhart(lake, settings)
    if settle is not None:
        actor = os.environ.get("USER", "operator")
        done = settle_alarms(lake.store, settings.flow, reason=settle, actor=actor)
        typer.echo(f"settled by {actor}: {', '.join(one.turn for one in done)}", err=as_json)
        found = check_goodhart(lake, settings)
    if as_json:
        print_json(found.model_dump(mode="json"))
    elif not html and out is None:
        show(found, console())
    if html or out is not None:
        typer.echo(write_page(found, out or page_path(settings)), err=as_json)
