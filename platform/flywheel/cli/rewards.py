"""Reward models: which there are, and what each is worth, by slice."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from flywheel.cli.options import ConfigOption, JsonOption, SetOption, load_config
from flywheel.cli.output import console, print_json

commands = typer.Typer()
rewards = typer.Typer(help="Reward models that turns trained.", no_args_is_help=True)
commands.add_typer(rewards, name="rewards", rich_help_panel="Evaluation")


@rewards.command("list")
def rewards_list(*, config: ConfigOption = None, set_: SetOption = None, as_json: JsonOption = False) -> None:
    """All of the flow, oldest first, and whether their word may count."""
    from flywheel.lake.manifests import list_manifests
    from flywheel.lake.tables import open_lake

    settings = load_config(config, set_)
    found = [_summary(manifest) for manifest in list_manifests(open_lake(settings), "reward", settings.flow)]
    if as_json:
        print_json(found)
        return
    if not found:
        print("No reward model yet: a turn trains one from comparisons, corrections and thumbs.")
    for one in found:
        print(f"{one['id']}  {one['created']}  from {one['base']}: {one['reason']}")


@rewards.command("show")
def rewards_show(
    name: Annotated[str, typer.Argument(help="Its id, as `flywheel rewards list` names it.")],
    *,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Accuracy on pairs it never saw, by slice, beside the better baseline; calibration; whether it may be used."""
    from flywheel.lake.manifests import read_manifest
    from flywheel.lake.tables import open_lake
    from flywheel.quality.reward_report import RewardReport, table

    settings = load_config(config, set_)
    manifest = read_manifest(open_lake(settings), "reward", name, flow=settings.flow)
    said = manifest.data.get("report")
    if as_json:
        print_json({**_summary(manifest), "report": said})
        return
    print(f"{manifest.id} from {manifest.data['base']}, {len(manifest.data['folds'])} folds")
    if said is None:
        print("No pair was held out, so nothing is known about it.")
        return
    found = RewardReport.model_validate(said)
    _draw(table(found))
    slope, error = found.calibration.slope, found.calibration.error
    if slope.low is not None and slope.high is not None and error is not None:
        print(f"calibration slope {slope.value:.2f} [{slope.low:.2f}, {slope.high:.2f}], expected error {error:.1%}, "
              f"temperature {found.temperature:.2f}")  # fmt: skip
    print(f"{'usable' if found.usable else 'NOT usable'}: {found.reason}")


def _draw(lines: list[Any]) -> None:
    from rich.table import Table

    drawn = Table(*lines[0])
    for line in lines:
        drawn.add_row(*line.values())
    console().print(drawn)


def _summary(manifest: Any) -> dict[str, Any]:
    said = manifest.data.get("report") or {}
    return {
        "id": manifest.id,
        "created": manifest.created.isoformat(timespec="seconds"),
        "base": manifest.data["base"],
        "usable": said.get("usable"),
        "reason": said.get("reason", "no held-out report"),
    }
