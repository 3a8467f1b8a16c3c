"""Evaluation cases."""

from __future__ import annotations

import typer

from flywheel.cli.contamination import contamination
from flywheel.cli.options import (
    ConfigOption,
    JsonOption,
    RejectsOption,
    SetOption,
    SourceArgument,
    StrictOption,
    load_config,
)
from flywheel.cli.output import progress_bar, show_import

commands = typer.Typer()
cases = typer.Typer(help="Evaluation cases.", no_args_is_help=True)
commands.add_typer(cases, name="cases", rich_help_panel="Evaluation")
cases.command("contamination")(contamination)


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
