"""The running service: up, down, status."""

from __future__ import annotations

from typing import Annotated

import typer

from flywheel.cli.options import ConfigOption, JsonOption, SetOption, load_config
from flywheel.cli.output import console, print_json, progress_bar

commands = typer.Typer()
PANEL = "Start"


@commands.command(rich_help_panel=PANEL)
def up(
    model: Annotated[
        str | None, typer.Option(help="What serves first: 'tiny', 'smollm2', a version, a folder, a Hugging Face id.")
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start gateway, engines and capture, and print how to talk to them."""
    from flywheel.demo.models import starting_model
    from flywheel.operate import processes

    settings = load_config(config, set_)
    progress = progress_bar(as_json)
    variant = starting_model(settings, model, progress)
    progress.start("up")
    running = processes.up(settings, model=variant, progress=progress)
    progress.finish(f"{running.url} serves {running.live}")
    if as_json:
        print_json(running.__dict__)
        return
    print(
        f"\nTry it:\n  curl {running.url}/v1/chat/completions -H 'content-type: application/json' "
        "-H 'x-flywheel-consent: training,evaluation' "
        '-d \'{"user": "ada", "messages": [{"role": "user", "content": "my order never arrived"}]}\'\n'
        "Then:\n  flywheel status      what is live, and what the last turn did\n"
        "  flywheel turn        one turn of the flywheel\n  flywheel down        stop everything"
    )


@commands.command(rich_help_panel=PANEL)
def down(config: ConfigOption = None, set_: SetOption = None, as_json: JsonOption = False) -> None:
    """Stop what `up` started, and ship what it recorded. Nothing stored is lost."""
    from flywheel.operate import processes
    from flywheel.operate.capture_state import ship_rest

    settings = load_config(config, set_)
    stopped = processes.down(settings)
    rest = ship_rest(settings) if stopped else {"unshipped": 0, "why": None}
    if as_json:
        print_json({"stopped": stopped, **rest})
        return
    print("stopped" if stopped else "nothing was running")
    if rest["unshipped"]:
        why = f" ({rest['why']})" if rest["why"] else ""
        print(f"{rest['unshipped']:,} recorded events wait on this machine; the next `flywheel up` ships them{why}")


@commands.command(rich_help_panel=PANEL)
def status(config: ConfigOption = None, set_: SetOption = None, as_json: JsonOption = False) -> None:
    """What is live, what is being tried, and what the turns decided."""
    from flywheel.lake.tables import open_lake
    from flywheel.operate.status import status as read_status

    settings = load_config(config, set_)
    state = read_status(open_lake(settings), settings)
    if as_json:
        print_json(state)
        return
    from flywheel.operate.render import status_tables

    status_tables(state, console())


@commands.command(rich_help_panel=PANEL)
def maintain(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be deleted; change nothing.")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Merge small files of the lake and delete those nobody needs; `run --every` does it once a day."""
    from flywheel.lake.tables import open_lake
    from flywheel.workflow.cadence.maintain import maintain as look_after

    done = look_after(open_lake(load_config(config, set_)), dry=dry_run, progress=progress_bar(as_json))
    if as_json:
        print_json(done.model_dump(mode="json"))
        return
    for table, count in done.deleted.items():
        merged = f"{done.merged[table]:,} files" if dry_run else f"{done.merged[table]:,} files fewer"
        print(f"{table}: {merged}, {count:,} {'to delete' if dry_run else 'deleted'}")
    print(f"files that were replaced within the last {done.keep_hours:,} h stay")
