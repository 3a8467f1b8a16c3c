"""Look at what curation did, row by row, and change its filter on purpose."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from flywheel.cli.options import ConfigOption, JsonOption, SetOption, config_file, load_config
from flywheel.cli.output import console, print_json

commands = typer.Typer()
curate = typer.Typer(help="What became of each row, and why.", no_args_is_help=True)
commands.add_typer(curate, name="curate", rich_help_panel="Turns")
filters = typer.Typer(help="The filter in force, and how another gets there.", no_args_is_help=True)
commands.add_typer(filters, name="filters", rich_help_panel="Turns")

FilterArgument = Annotated[Path, typer.Argument(help="A filter file, such as a sweep's winner.", dir_okay=False)]


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


@filters.command("show")
def show_filter(config: ConfigOption = None, set_: SetOption = None, as_json: JsonOption = False) -> None:
    """The filter in force, whole, as a file to start from."""
    import yaml

    used = load_config(config, set_).quality.filter.model_dump(mode="json")
    print_json(used) if as_json else print(yaml.safe_dump(used, sort_keys=False, width=120), end="")


@filters.command("diff")
def diff(
    file: FilterArgument, config: ConfigOption = None, set_: SetOption = None, as_json: JsonOption = False
) -> None:
    """What a filter would change: settings, rules, and which rows of the newest turn come in and go out."""
    from flywheel.lake.tables import open_lake
    from flywheel.operate.curation import difference as draw
    from flywheel.workflow.curation.adopt import difference

    settings = load_config(config, set_)
    found = difference(open_lake(settings), settings, file)
    print_json(found) if as_json else draw(found, console())


@filters.command("adopt")
def adopt(
    file: FilterArgument,
    reason: Annotated[str, typer.Option(help="Why; kept in the decisions.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the next turn use a filter: writes it beside the configuration, points that at it, keeps who and why."""
    from flywheel.lake.tables import open_lake
    from flywheel.workflow.curation.adopt import adopt as put

    settings = load_config(config, None)
    actor = os.environ.get("USER", "operator")
    done = put(open_lake(settings), settings, file, config_path=config_file(config), reason=reason, actor=actor)
    if as_json:
        print_json(done)
        return
    said = f"{done['config']}: quality.filter_file is {done['file']}" if done["changed"] else "as it was"
    print(f"filter {done['from']} -> {done['to']}; {said}")
    print(*done["remarks"], sep="\n", end="\n" if done["remarks"] else "")
    if done["changed"]:
        print("Review and commit both files; the next turn uses them.")
