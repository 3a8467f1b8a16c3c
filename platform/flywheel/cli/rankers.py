"""The ranker that learns from ranked lists: train, look, promote, go back."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from flywheel.cli.options import ConfigOption, JsonOption, SetOption, load_config
from flywheel.cli.output import print_json, progress_bar

commands = typer.Typer()
ranker = typer.Typer(help="The ranker that learns from what people do with ranked lists.", no_args_is_help=True)
commands.add_typer(ranker, name="ranker", rich_help_panel="Turns")

REFUSED = 3
"""Exit code of `flywheel ranker promote` when the candidate did not pass."""


@ranker.command("train")
def train(
    *,
    no_shadow: Annotated[bool, typer.Option("--no-shadow", help="Only register it.")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Learn from the lists in the lake; the new ranker scores beside the live one, where nobody sees it."""
    from flywheel.workflow.rankers import learn

    settings = load_config(config, set_)
    done = learn.summary(learn.train(settings, actor=_actor(), shadow=not no_shadow, progress=progress_bar(as_json)))
    if as_json:
        print_json(done)
        return
    _tell(done)
    if not no_shadow:
        print("It is in the shadow. When it has scored enough lists: flywheel ranker promote")


@ranker.command("list")
def list_(*, config: ConfigOption = None, set_: SetOption = None, as_json: JsonOption = False) -> None:
    """All rankers of the flow, oldest first."""
    from flywheel.workflow.rankers import state

    found = state.rankers(load_config(config, set_))
    if as_json:
        print_json(found)
        return
    if not found:
        print("No ranker yet: flywheel ranker train")
    for one in found:
        _tell(one)


@ranker.command("status")
def status(*, config: ConfigOption = None, set_: SetOption = None, as_json: JsonOption = False) -> None:
    """What serves, and how far the shadow is."""
    from flywheel.workflow.rankers import state

    said = state.state(load_config(config, set_))
    if as_json:
        print_json(said)
        return
    print(f"live: {said['live'] or 'none, lists are ordered by the scores that the product sends'}")
    for one in said["shadows"]:
        print(f"shadow: {one['version']} scored {one['lists']:,} of {one['needed']:,} lists")
    if said["erased"]:
        print(f"The live ranker was made of data of people erased since: {', '.join(said['erased'])}. Train a new one.")
    if said["serving"] != "engagement":
        print(f"The gateway orders by '{said['serving']}'; set gateway.ranking.ranker to engagement to use rankers.")


@ranker.command("shadow")
def shadow(
    version: Annotated[str, typer.Argument(help="A version, as `flywheel ranker list` names it.")],
    *,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a ranker score beside the live one, in place of what is in the shadow."""
    from flywheel.lake.tables import open_lake
    from flywheel.registry.rankers import ranker_manifest
    from flywheel.workflow.rankers import learn

    settings = load_config(config, set_)
    lake = open_lake(settings)
    changed = learn.to_shadow(lake, settings, ranker_manifest(lake, settings.flow, version), actor=_actor())
    if as_json:
        print_json({"version": version, "changed": changed})
    else:
        print(f"{version} is in the shadow" if changed else f"{version} is live or in the shadow, as it was")


@ranker.command("promote")
def promote(
    version: Annotated[str | None, typer.Argument(help="Default: the one in the shadow.")] = None,
    *,
    reason: Annotated[str, typer.Option(help="Why; kept in the decisions.")] = "",
    override: Annotated[bool, typer.Option("--override", help="Although it does not pass; needs --reason.")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge the shadow by what it would have earned, and let it order lists if it passes; exit code 3 if not."""
    from flywheel.workflow.rankers import promote as steps

    done = steps.promote(load_config(config, set_), version, actor=_actor(), reason=reason, override=override)
    if as_json:
        print_json(done.model_dump(mode="json"))
    else:
        for one in done.reasons:
            print(f"{'ok' if one.passed else 'no'}  {one.name}: {one.text}")
        print(f"{done.version} {'orders lists now' if done.promoted else 'stays in the shadow'}")
    raise typer.Exit(0 if done.promoted else REFUSED)


@ranker.command("rollback")
def rollback(
    *,
    reason: Annotated[str, typer.Option(help="Why; kept in the decisions.")],
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Back to the ranker before, or to the scores that the product sends."""
    from flywheel.workflow.rankers import promote as steps

    state = steps.rollback(load_config(config, set_), actor=_actor(), reason=reason)
    if as_json:
        print_json(state.model_dump(mode="json"))
    else:
        print(f"live: {state.live.version if state.live else 'the scores that the product sends'}")


def _tell(one: dict[str, Any]) -> None:
    report = one["report"]
    heads = ", ".join(f"{head['action']} {head['happened']:,}{_auc(head)}" for head in report["heads"])
    print(f"{one['version']}  {one['created']}  {report['lists']:,} lists of {report['people']:,} people: {heads}")


def _auc(head: dict[str, Any]) -> str:
    if not head["learnt"]:
        return " (not learnt)"
    return f" (AUC {head['auc']:.2f})" if head["auc"] is not None else ""


def _actor() -> str:
    return os.environ.get("USER", "operator")
