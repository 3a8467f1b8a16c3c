"""The gate: look at a verdict, approve a candidate."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from flywheel.cli.options import ConfigOption, JsonOption, SetOption, load_config
from flywheel.cli.output import print_json

commands = typer.Typer()
PANEL = "Turns"


@commands.command(rich_help_panel=PANEL)
def report(
    turn: Annotated[str, typer.Argument(help="A turn, or 'latest': the latest one with a verdict.")] = "latest",
    out: Annotated[Path | None, typer.Option(help="The page; default: <home>/reports/<flow>/<turn>.html.")] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """What a turn's verdict rests on: one page that needs nothing else, or --json."""
    from flywheel.workflow.turns.report.page import report_path, write_report
    from flywheel.workflow.turns.reporting import report as make

    settings = load_config(config, set_)
    made = make(settings, turn)
    if as_json:
        print_json(made.model_dump(mode="json"))
    if out is not None or not as_json:
        path = write_report(made, out or report_path(settings, made.turn_id))
        typer.echo(path, err=as_json)


@commands.command(rich_help_panel=PANEL)
def approve(
    candidate: Annotated[str, typer.Argument(help="The version that waits for a person.")],
    reason: Annotated[str, typer.Option(help="Why; kept in the decisions.")],
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Approve a candidate on the results it was judged by (`rollout.gate.require_approval`), then run `turn` again."""
    from flywheel.workflow.turns.approve import approve as give

    row = give(load_config(config, set_), candidate, reason=reason, actor=os.environ.get("USER", "operator"))
    if as_json:
        print_json(row.model_dump(mode="json"))
    else:
        print(f"{candidate} is approved by {row.actor} on {', '.join(row.evidence)}. Go on with: flywheel turn")
