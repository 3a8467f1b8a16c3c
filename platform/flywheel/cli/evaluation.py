"""Models on suites."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flywheel.cli.options import ConfigOption, JsonOption, SetOption, load_config
from flywheel.cli.output import console, print_json, progress_bar
from flywheel.errors import FlywheelError

commands = typer.Typer()
PANEL = "Evaluation"


@commands.command(rich_help_panel=PANEL)
def evaluate(
    *,
    model: Annotated[
        list[str] | None, typer.Option(help="A version, 'live', a model folder, endpoint:NAME; repeat for several.")
    ] = None,
    suite: Annotated[list[str] | None, typer.Option(help="Suite to run; repeat for several.")] = None,
    param: Annotated[
        list[str] | None, typer.Option(help="temperature=0,0.7, max_tokens=, seed=, system=; repeat for several.")
    ] = None,
    grid: Annotated[Path | None, typer.Option(help="Models, suites and parameters as a file.", dir_okay=False)] = None,
    endpoint: Annotated[str | None, typer.Option(help="https://host/v1 of an OpenAI-compatible service.")] = None,
    endpoint_key: Annotated[str | None, typer.Option(help="Environment variable that holds its key.")] = None,
    by: Annotated[str | None, typer.Option(help="Show slices too: intent, language, length, tenant.")] = None,
    out: Annotated[Path | None, typer.Option(help="The table as .csv or .json.", dir_okay=False)] = None,
    drift: Annotated[bool, typer.Option("--drift", help="Test the live model on fresh labelled traffic.")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run models on evaluation suites. What was answered before is not asked again."""
    settings = load_config(config, set_)
    if drift:
        _drift(settings, as_json)
        return
    from flywheel.operate.evaluation_table import check_out, show, write_table
    from flywheel.workflow.evaluations.evaluate import evaluate_grid
    from flywheel.workflow.evaluations.grid import grid_of

    if out is not None:
        check_out(out)
    asked = grid_of(grid, models=model, suites=suite, params=param, endpoint=endpoint, endpoint_key=endpoint_key)
    result = evaluate_grid(settings, asked, progress=progress_bar(as_json))
    if out is not None:
        write_table(result, out)
    if as_json:
        print_json(result.as_dict())
    else:
        show(result, console(), by=by)
    if result.failed:
        raise FlywheelError(
            f"{len(result.failed)} of {len(result.cells)} cells failed ({result.failed[0].reason or 'not answered'}). "
            "Run the same command again: what is finished is not repeated."
        )


def _drift(settings: Any, as_json: bool) -> None:
    from flywheel.workflow.cadence.drift_check import check_drift

    found = check_drift(settings, progress=progress_bar(as_json))
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        print(found.text)
