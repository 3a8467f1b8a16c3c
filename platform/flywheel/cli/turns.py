"""Turns: run one, ask whether one is due, search its filter, take a promotion back, the demo."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from flywheel.cli.options import ConfigOption, JsonOption, SetOption, load_config
from flywheel.cli.output import console, print_json, progress_bar, standard_output
from flywheel.errors import FlywheelError, UsageError

commands = typer.Typer()
PANEL = "Turns"


@commands.command(rich_help_panel=PANEL)
def turn(
    model: Annotated[str | None, typer.Option(help="First live model, for a flow that has none yet.")] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    new: Annotated[bool, typer.Option("--new", help="Abandon an unfinished turn.")] = False,
    as_json: JsonOption = False,
) -> None:
    """One turn: score, filter, train, evaluate, shadow, decide. Killed and run again, it goes on where it was."""
    from flywheel.demo.models import starting_model
    from flywheel.workflow.turns.turn import run_turn

    settings = load_config(config, set_)
    variant = starting_model(settings, model, progress_bar(as_json))
    result = run_turn(settings, model=variant, new=new, progress=progress_bar(as_json))
    _show_turn(result, as_json)


NOT_DUE = 3
"""Exit code of `flywheel due` when no turn is due: neither success nor one of the failures."""


@commands.command(rich_help_panel=PANEL)
def due(config: ConfigOption = None, set_: SetOption = None, as_json: JsonOption = False) -> None:
    """Is a turn due, and why? Exit code 0: yes, 3: no; so `flywheel due && flywheel turn` works."""
    from dataclasses import asdict

    from flywheel.workflow.cadence.autorun import check

    found = check(load_config(config, set_))
    if as_json:
        print_json(asdict(found))
    else:
        from flywheel.operate.render import due_lines

        due_lines(found, console())
    raise typer.Exit(0 if found.due else NOT_DUE)


@commands.command(rich_help_panel=PANEL)
def run(
    if_due: Annotated[bool, typer.Option("--if-due", help="One turn if one is due, else nothing.")] = False,
    every: Annotated[str | None, typer.Option(help="The same again and again: 30m, 1h. Ends at SIGTERM.")] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a turn when one is due (see `due`). Two at once, on whatever machines, do one turn."""
    if not if_due and every is None:
        raise UsageError("Say --if-due or --every 1h; for a turn whether due or not there is `flywheel turn`.")
    settings = load_config(config, set_)
    if every is not None:
        from flywheel.operate.scheduler import parse_duration, run_every

        options = [*(["--config", str(config)] if config else []), *(f"--set={pair}" for pair in set_ or [])]
        command = [sys.executable, "-m", "flywheel", "run", "--if-due", *options, *(["--json"] if as_json else [])]
        run_every(command, parse_duration(every), say=_say, stdout=standard_output())
        return
    from dataclasses import asdict

    from flywheel.workflow.cadence.autorun import run_if_due

    outcome = run_if_due(settings, progress=progress_bar(as_json))
    if as_json:
        print_json(asdict(outcome))
    elif outcome.turn is not None:
        _show_turn(outcome.turn, as_json=False)
    else:
        print(f"not due: {'; '.join(f'{why.name}: {why.text}' for why in outcome.due.waiting)}")


@commands.command(rich_help_panel=PANEL)
def sweep(
    out: Annotated[Path, typer.Option(help="Where the winning filter is written; its plot lies beside it.")] = Path(
        "filter.yaml"
    ),
    *,
    finalists: Annotated[
        int | None, typer.Option(help="Fine-tune a proxy for so many of the best filters; default: the configured.")
    ] = None,
    period: Annotated[
        str | None, typer.Option(help="At most one finished sweep each day, week or month.", metavar="day|week|month")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--restart", help="Go on behind finished trials, or run them again.")
    ] = True,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search the filter thresholds against the `tune` labels; `flywheel filters` shows and adopts the winner."""
    from flywheel.workflow.turns.alone import run_sweep

    wanted = [*(set_ or []), *([] if finalists is None else [f"sweep.proxy.finalists={finalists}"])]
    settings, progress = load_config(config, wanted), progress_bar(as_json)
    result = run_sweep(settings, out=out, period=period, restart=not resume, progress=progress)
    if as_json:
        print_json(result)
    else:
        from flywheel.operate.sweep_lines import sweep_lines

        print("\n".join(sweep_lines(result)))


@commands.command(rich_help_panel=PANEL)
def rollback(
    reason: Annotated[str, typer.Option(help="Why; kept in the decisions.")],
    *,
    accept_erased: Annotated[
        bool, typer.Option("--accept-erased", help="Even if the model before was made of data erased since.")
    ] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the previous live model live again."""
    from flywheel.lake.tables import open_lake
    from flywheel.rollout.promotion import rollback as roll_back

    settings = load_config(config, set_)
    actor = os.environ.get("USER", "operator")
    change = roll_back(open_lake(settings), settings, reason=reason, actor=actor, accept_erased=accept_erased)
    truth = change.routing
    if as_json:
        print_json({"changed": change.changed, "notes": change.notes, **truth.model_dump(mode="json")})
    else:
        print(f"live: {truth.live.version} (routing {truth.n}){'' if change.changed else ', as it was'}")


@commands.command(rich_help_panel=PANEL)
def demo(
    *,
    config: ConfigOption = None,
    set_: SetOption = None,
    sabotage: Annotated[bool, typer.Option("--sabotage", help="40 % hostile feedback and no filter.")] = False,
    model: Annotated[
        str, typer.Option(help="'tiny', or a general model that learns the product first: 'smollm2', a folder, an id.")
    ] = "tiny",
    keep: Annotated[bool, typer.Option("--keep", help="Leave gateway and engines running at the end.")] = False,
    turns: Annotated[int, typer.Option(min=1, help="Rounds of traffic and a turn each: what compounds?")] = 1,
    as_json: JsonOption = False,
) -> None:
    """One full turn on simulated product traffic, from an empty folder to a better live model."""
    from flywheel.demo.run import run_demo

    result = run_demo(
        config, set_ or [], model=model, sabotage=sabotage, keep=keep, turns=turns, progress=progress_bar(as_json)
    )
    _show_turn(result, as_json)
    if not as_json:
        from flywheel.operate.render import demo_summary

        demo_summary(result, console())
    expected = "reject" if sabotage else "promote"
    decision = result["demo"]["rounds"][0]["decision"]  # later turns have less to gain, and may change nothing
    if decision != expected:
        raise FlywheelError(f"The first turn should have ended with '{expected}' and ended with '{decision}'.")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _show_turn(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(result)
        return
    from flywheel.operate.render import before_after_table, funnel_table, verdict_table

    screen = console()
    if result["funnel"]:
        screen.print(funnel_table(result["funnel"]))
    if result["metrics"]["suites"]:
        screen.print(before_after_table(result["metrics"]))
    if result["conditions"]:
        screen.print(verdict_table(result["decision"], result["conditions"]))
    else:
        screen.print(f"{result['id']}: {result['decision']}. {'; '.join(result['reasons'])}", markup=False)
    if result["report"]:
        screen.print(f"report: {result['report']}", markup=False, highlight=False, soft_wrap=True)
