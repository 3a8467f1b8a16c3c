"""Look at what curation did, row by row, and change its filter on purpose."""

from __future__ import annotations

from typing import Annotated

import typer

from flywheel.cli.options import ConfigOption, JsonOption, SetOption, load_config
from flywheel.cli.output import console, print_json

commands = typer.Typer()
curate = typer.Typer(help="What became of each row, and why.", no_args_is_help=True)
commands.add_typer(curate, name="curate", rich_help_panel="Turns")


@curate.command("explain")
def explain(
    row: Annotated[str, typer.Argument(metavar="ID", help="An interaction's id, or an example's (ex-...).")],
    *,
    turn: Annotated[
        str | None, typer.Option(help="In the dataset of this turn; default: the newest that saw it.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="In this dataset.")] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Why a row is in a dataset, or why not: every signal, rule and vote. Shows numbers and ids, never texts."""
    from flywheel.errors import UsageError
    from flywheel.lake.tables import open_lake
    from flywheel.operate.curation import explanation
    from flywheel.workflow.curation.explain import explain as find

    if turn is not None and dataset is not None:
        raise UsageError("Name a turn or a dataset, not both.")
    settings = load_config(config, set_)
    found = find(open_lake(settings), settings, row, dataset=dataset, turn=turn)
    print_json(found.model_dump(mode="json")) if as_json else explanation(found, console())


@curate.command("show")
def show(
    dataset: Annotated[str | None, typer.Argument(help="Default: the newest of the flow.")] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """A dataset's funnel, its filter with what each rule dropped, and the models made of it."""
    from flywheel.lake.tables import open_lake
    from flywheel.operate.curation import dataset as draw
    from flywheel.workflow.curation.show import show as look

    settings = load_config(config, set_)
    found = look(open_lake(settings), settings, dataset)
    print_json(found) if as_json else draw(found, console())
