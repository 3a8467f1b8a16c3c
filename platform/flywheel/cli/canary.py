"""Canaries by hand: start one, change its share, stop it, and see whether users are split as asked."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from flywheel.cli.options import ConfigOption, JsonOption, SetOption, load_config
from flywheel.cli.output import print_json

if TYPE_CHECKING:
    from flywheel.config import FlywheelConfig
    from flywheel.rollout.promotion import Change

commands = typer.Typer()
canary = typer.Typer(help="Let some users meet a model before it is live.", no_args_is_help=True)
commands.add_typer(canary, name="canary", rich_help_panel="Turns")

MISMATCH = 3
"""Exit code of `flywheel canary check` when users are not split as asked."""

VersionArgument = Annotated[str, typer.Argument(help="A version: in the shadow, a canary, or past the gate.")]
ReasonOption = Annotated[str, typer.Option(help="Why; kept in the decisions.")]
ShareOption = Annotated[float, typer.Option(help="Share of the users (else sessions, else requests), in (0, 1).")]
OverrideOption = Annotated[bool, typer.Option("--override", help="Although the gate did not pass it.")]


@canary.command("start")
def start(
    *,
    version: VersionArgument,
    reason: ReasonOption,
    share: ShareOption = 0.05,
    override: OverrideOption = False,
    tenant: Annotated[list[str] | None, typer.Option(help="Only for this tenant's requests; repeatable.")] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer a share of the users with a model that passed the gate; a shadow of it ends."""
    settings = load_config(config, set_)
    _to_share(settings, version, share, reason=reason, override=override, tenants=tenant or [], as_json=as_json)


@canary.command("share")
def change_share(
    *,
    version: VersionArgument,
    share: Annotated[float, typer.Argument(help="The new share, in (0, 1). Whoever had it keeps it while it grows.")],
    reason: ReasonOption,
    override: OverrideOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Grow or shrink a canary."""
    settings = load_config(config, set_)
    _to_share(settings, version, share, reason=reason, override=override, tenants=[], as_json=as_json)


@canary.command("stop")
def stop(
    version: VersionArgument,
    reason: ReasonOption,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a canary's users back to the live model."""
    from flywheel.lake.tables import open_lake
    from flywheel.rollout import canary_steps

    settings = load_config(config, set_)
    _show(canary_steps.stop(open_lake(settings), settings, version, reason=reason, actor=_actor()), as_json)


@canary.command("check")
def check(config: ConfigOption = None, set_: SetOption = None, as_json: JsonOption = False) -> None:
    """Are users split as asked? Exit code 3 on a sample-ratio mismatch: then compare nothing before you know why."""
    from flywheel.lake.tables import open_lake
    from flywheel.rollout import routing
    from flywheel.rollout.split import check_split

    settings = load_config(config, set_)
    lake = open_lake(settings)
    truth = routing.current(lake.store, settings.flow)
    found = check_split(lake, truth) if truth else []
    if as_json:
        print_json([one.model_dump(mode="json") for one in found])
    elif not found:
        print("nobody was drawn between the live model and a canary yet")
    else:
        print(*(f"{'MISMATCH' if one.alarm else 'as asked'}: {one.text}" for one in found), sep="\n")
    raise typer.Exit(MISMATCH if any(one.alarm for one in found) else 0)


def _to_share(
    settings: FlywheelConfig,
    version: str,
    share: float,
    *,
    reason: str,
    override: bool,
    tenants: list[str],
    as_json: bool,
) -> None:
    from flywheel.lake.tables import open_lake
    from flywheel.rollout import canary_steps

    lake = open_lake(settings)
    done = canary_steps.start(
        lake, settings, version, share, reason=reason, actor=_actor(), tenants=tenants, override=override
    )
    _show(done, as_json)


def _show(change: Change, as_json: bool) -> None:
    truth = change.routing
    if as_json:
        print_json({"changed": change.changed, "notes": change.notes, **truth.model_dump(mode="json")})
        return
    held = [(canary.version, canary.share) for canary in truth.canaries]
    arms = [(truth.live.version, 1 - sum(share for _, share in held)), *held]
    split = ", ".join(f"{version} {100 * share:.6g} %" for version, share in arms)
    print(f"{split} (routing {truth.n}){'' if change.changed else ', as it was'}")
    for note in change.notes:
        print(note)


def _actor() -> str:
    return os.environ.get("USER", "operator")
