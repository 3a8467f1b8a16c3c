"""Evaluation: labels, cases, models on suites."""

from __future__ import annotations

from typing import Annotated

import typer

from flywheel.cli.options import (
    ConfigOption,
    JsonOption,
    RejectsOption,
    SetOption,
    SourceArgument,
    StrictOption,
    load_config,
)
from flywheel.cli.output import print_json, progress_bar, show_import

commands = typer.Typer()
PANEL = "Evaluation"
cases = typer.Typer(help="Evaluation cases.", no_args_is_help=True)
commands.add_typer(cases, name="cases", rich_help_panel=PANEL)


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


@commands.command(rich_help_panel=PANEL)
def evaluate(
    model: Annotated[str, typer.Option(help="A version, 'live', or a model folder.")],
    suite: Annotated[list[str], typer.Option(help="Suite to run; repeat for several.")],
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a model on evaluation suites."""
    from flywheel.workflow.evaluate import evaluate_model

    result = evaluate_model(load_config(config, set_), model=model, suites=suite, progress=progress_bar(as_json))
    if as_json:
        print_json(result)
        return
    for name, row in result["suites"].items():
        low, high = row["interval"]
        print(f"{name}: {row['accuracy']:.1%}  [{low:.1%}, {high:.1%}]  on {row['n']:,} cases, {row['errors']} errors")


@cases.command("import")
def cases_import(
    source: SourceArgument,
    *,
    rejects: RejectsOption = None,
    strict: StrictOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring your own evaluation cases into the lake, as they are written."""
    from flywheel.capture.importer import import_cases
    from flywheel.lake.tables import open_lake

    settings = load_config(config, set_)
    report = import_cases(
        open_lake(settings), settings, source, strict=strict, rejects=rejects, progress=progress_bar(as_json)
    )
    show_import(report, as_json)
