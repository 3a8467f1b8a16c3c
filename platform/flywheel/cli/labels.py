"""Human labels: judge answers at the terminal."""

from __future__ import annotations

from typing import Annotated

import typer

from flywheel.cli.options import ConfigOption, SetOption, load_config

commands = typer.Typer()
PANEL = "Evaluation"


@commands.command(rich_help_panel=PANEL)
def label(
    annotator: Annotated[str, typer.Option(help="Your name, kept with each label.")],
    limit: Annotated[int, typer.Option(min=1, help="How many to show.")] = 100,
    curated: Annotated[bool, typer.Option("--curated", help="The starter set instead of a random sample.")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Judge answers, one key each: a accept, c correct, s skip, u undo, q quit."""
    from flywheel.lake.tables import open_lake
    from flywheel.review import terminal
    from flywheel.workflow.labelling import queue

    settings = load_config(config, set_)
    lake = open_lake(settings)
    items = queue(lake, settings, curated=curated)[:limit]
    report = terminal.label(lake, settings.flow, items, annotator=annotator)
    print(f"{report.accepted} accepted, {report.corrected} corrected, {report.skipped} skipped, {report.left} left")
