"""Data in, data out, data gone: import, export, forget."""

from __future__ import annotations

import sys
from pathlib import Path
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
from flywheel.cli.output import console, print_json, progress_bar, show_import
from flywheel.errors import UsageError

commands = typer.Typer()
PANEL = "Data"


@commands.command("import", rich_help_panel=PANEL)
def import_(
    source: SourceArgument,
    *,
    format_: Annotated[str, typer.Option("--format", help="auto, flywheel, openai, langfuse or mlflow.")] = "auto",
    flow: Annotated[str | None, typer.Option(help="Flow of lines that name none; default: the configured one.")] = None,
    user: Annotated[str | None, typer.Option(help="User of lines that name none; default: each its own.")] = None,
    user_field: Annotated[str | None, typer.Option(help="Where lines hold the user: metadata.customer")] = None,
    consent: Annotated[
        str | None,
        typer.Option(help="What people agreed to, for lines that do not say: training,evaluation; default: nothing."),
    ] = None,
    taught: Annotated[
        bool,
        typer.Option("--taught", help="The lines are what the live model was taught with: rehearsed, never traffic."),
    ] = False,
    rejects: RejectsOption = None,
    strict: StrictOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring your own logs into the lake: Flywheel's lines, OpenAI fine-tuning files, Langfuse or MLflow traces."""
    from flywheel.capture.importer import import_interactions
    from flywheel.capture.readers import Reading, read_purposes
    from flywheel.lake.keys import Keyring
    from flywheel.lake.tables import open_lake

    settings = load_config(config, set_)
    report = import_interactions(
        open_lake(settings),
        settings,
        Keyring(settings.home_path()),
        source,
        reading=Reading(format_, flow, user, user_field, read_purposes(consent), taught),
        strict=strict,
        rejects=rejects,
        progress=progress_bar(as_json),
    )
    show_import(report, as_json)


@commands.command(rich_help_panel=PANEL)
def export(
    name: Annotated[str, typer.Argument(help="A table of the lake, or the id of a dataset.")],
    *,
    out: Annotated[Path, typer.Option(help="The file to write.")],
    format_: Annotated[
        str | None,
        typer.Option("--format", help="parquet, jsonl, or chat (OpenAI fine-tuning); default: by the file's name."),
    ] = None,
    flow: Annotated[str | None, typer.Option(help="Default: the configured one.")] = None,
    purpose: Annotated[
        str | None, typer.Option(help="What people must have agreed to: training, evaluation or third_party.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a table or dataset to a file, without the rows whose people do not agree to it now."""
    from flywheel.lake.tables import open_lake
    from flywheel.workflow.exchange.export import export as write

    settings = load_config(config, set_)
    report = write(
        open_lake(settings), settings, name,
        out=out, format_=format_, flow=flow, purpose=purpose, force=force, progress=progress_bar(as_json),
    )  # fmt: skip
    print_json(report.model_dump(mode="json")) if as_json else print(report.summary())


@commands.command(rich_help_panel=PANEL)
def forget(
    *,
    user: Annotated[str, typer.Option(help="The person, as requests name them; anonymous:SESSION without a name.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a person from every store, for good, and mark what learnt from them."""
    from flywheel.operate.render import show_erasure
    from flywheel.workflow.erasure import erase

    settings = load_config(config, set_)
    if not (yes or dry_run or sys.stdin.isatty()):
        raise UsageError("This removes data for good, so it asks first. Without a terminal, pass --yes or --dry-run.")
    if dry_run or not yes:
        found = erase.look(settings, user)
        print_json(found.model_dump(mode="json")) if as_json and dry_run else show_erasure(found, console(as_json))
        if dry_run or not typer.confirm("Remove this for good?", err=as_json):
            return
    done = erase.forget(settings, user, progress=progress_bar(as_json))
    print_json(done.model_dump(mode="json")) if as_json else show_erasure(done, console())
