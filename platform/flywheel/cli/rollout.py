"""Rollouts: a candidate past the gate goes live in steps; a person may hold it, move it on or take it back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flywheel.cli.options import ConfigOption, JsonOption, SetOption, load_config
from flywheel.cli.output import console, print_json

if TYPE_CHECKING:
    from flywheel.rollout.promotion import Change

commands = typer.Typer()
rollout = typer.Typer(help="Let a candidate go live in steps, watched, and back by itself.", no_args_is_help=True)
commands.add_typer(rollout, name="rollout", rich_help_panel="Turns")

VersionArgument = Annotated[str, typer.Argument(help="The candidate's version.")]
ReasonOption = Annotated[str, typer.Option(help="Why; kept in the decisions.")]


@rollout.command("status")
def status(config: ConfigOption = None, set_: SetOption = None, as_json: JsonOption = False) -> None:
    """Where candidates stand, what the guards see, and what each waits for."""
    from flywheel.lake.tables import open_lake
    from flywheel.operate.rollout_state import rollout_state
    from flywheel.operate.rollout_table import show_state

    settings = load_config(config, set_)
    state = rollout_state(open_lake(settings), settings)
    if as_json:
        print_json(state)
    else:
        show_state(state, console())


@rollout.command("start")
def start(
    version: VersionArgument,
    reason: ReasonOption,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hand a model that passed the gate to the rollout; turns do this by themselves."""
    from flywheel.lake.tables import open_lake
    from flywheel.registry.versions import resolve
    from flywheel.rollout import routing
    from flywheel.rollout.machine import take
    from flywheel.rollout.routing import Variant

    settings = load_config(config, set_)
    lake = open_lake(settings)
    now = routing.current(lake.store, settings.flow)
    known = next((one for one in now.variants() if one.version == version), None) if now else None
    candidate = known or Variant(version=version, folder=str(resolve(lake, settings, version).folder))
    _show(take.begin(lake, settings, candidate, reason=reason, actor=_actor()), as_json)


@rollout.command("approve")
def approve(
    version: VersionArgument,
    reason: ReasonOption,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take the next step now, without waiting for time, requests or the comparison; the gate's word must hold."""
    from flywheel.lake.tables import open_lake
    from flywheel.rollout.machine import take

    settings = load_config(config, set_)
    _show(take.approve(open_lake(settings), settings, version, reason=reason, actor=_actor()), as_json)


@rollout.command("pause")
def pause(
    version: VersionArgument,
    reason: ReasonOption,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hold a candidate where it is; guards still take it back."""
    from flywheel.lake.tables import open_lake
    from flywheel.rollout.machine import take

    settings = load_config(config, set_)
    _show(take.pause(open_lake(settings), settings, version, reason=reason, actor=_actor()), as_json)


@rollout.command("resume")
def resume(
    version: VersionArgument,
    reason: ReasonOption,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a held candidate go on; its step begins anew."""
    from flywheel.lake.tables import open_lake
    from flywheel.rollout.machine import take

    settings = load_config(config, set_)
    _show(take.resume(open_lake(settings), settings, version, reason=reason, actor=_actor()), as_json)


@rollout.command("rollback")
def rollback(
    version: VersionArgument,
    reason: ReasonOption,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a model back: a canary's users go to the live model, a live one gives way to the one before."""
    from flywheel.lake.tables import open_lake
    from flywheel.rollout.machine import take

    settings = load_config(config, set_)
    _show(take.back(open_lake(settings), settings, version, reason=reason, actor=_actor()), as_json)


@rollout.command("history")
def history(
    version: Annotated[str | None, typer.Argument(help="Only since this version came.")] = None,
    out: Annotated[Path | None, typer.Option(help="A picture of the shares over time, SVG.", dir_okay=False)] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Who answered which share of the users, when, and why that changed."""
    from flywheel.lake.tables import open_lake
    from flywheel.operate.rollout_table import show_story
    from flywheel.records import utcnow
    from flywheel.rollout.machine.picture import share_svg
    from flywheel.rollout.machine.story import story

    settings = load_config(config, set_)
    moments = story(open_lake(settings), settings.flow, about=version)
    if out is not None:
        out.write_text(share_svg(moments, utcnow()), encoding="utf-8")
        typer.echo(out, err=as_json)
    if as_json:
        print_json([moment.model_dump(mode="json") for moment in moments])
    elif out is None:
        show_story(moments, console())


def _show(change: Change, as_json: bool) -> None:
    truth = change.routing
    if as_json:
        print_json({"changed": change.changed, "notes": change.notes, **truth.model_dump(mode="json")})
        return
    held = [(canary.version, canary.share) for canary in truth.canaries]
    arms = [(truth.live.version, 1 - sum(share for _, share in held)), *held]
    split = ", ".join(f"{version} {100 * share:.6g} %" for version, share in arms)
    print(f"{split} (routing {truth.n}){'' if change.changed else ', as it was'}")
    for one in truth.rollouts:
        print(f"{one.version}: {f'held ({one.paused})' if one.paused else 'goes on by itself'}")
    for note in change.notes:
        print(note)


def _actor() -> str:
    return os.environ.get("USER", "operator")
