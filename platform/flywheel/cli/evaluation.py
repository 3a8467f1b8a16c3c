"""Models on suites."""

from __future__ import annotations

from typing import Annotated

import typer

from flywheel.cli.options import ConfigOption, JsonOption, SetOption, load_config
from flywheel.cli.output import print_json, progress_bar

commands = typer.Typer()
PANEL = "Evaluation"


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
