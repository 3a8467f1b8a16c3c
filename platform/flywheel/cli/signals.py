"""What is measured about each possible training row."""

from __future__ import annotations

from typing import Annotated

import typer

from flywheel.cli.options import ConfigOption, JsonOption, SetOption, load_config
from flywheel.cli.output import console, print_json

commands = typer.Typer()


@commands.command("signals", rich_help_panel="Data")
def signals(
    name: Annotated[str | None, typer.Argument(help="One signal; default: all of them.")] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the signals: what each measures, how it is gamed, what it costs, and whether it is on."""
    from flywheel.quality.signals.catalogue import catalogue

    found = catalogue(load_config(config, set_), name)
    if as_json:
        print_json([entry.model_dump(mode="json") for entry in found])
        return
    from flywheel.operate.signal_table import signal_page, signal_table

    console().print(signal_table(found) if name is None else signal_page(found[0]))
