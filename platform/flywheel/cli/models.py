"""Model versions."""

from __future__ import annotations

from typing import Annotated

import typer

from flywheel.cli.options import ConfigOption, SetOption, load_config
from flywheel.cli.output import progress_bar

commands = typer.Typer()
models = typer.Typer(help="Model versions.", no_args_is_help=True)
commands.add_typer(models, name="models", rich_help_panel="Evaluation")


@models.command("build")
def models_build(
    name: Annotated[str, typer.Argument(help="'tiny': the small built-in base, trained here in about a minute.")],
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Build a built-in model."""
    from flywheel.demo.models import first_model

    variant = first_model(load_config(config, set_), name, progress_bar(as_json=False))
    print(f"{variant.version}: {variant.folder}")
