"""What would another policy have earned on the traffic that was logged?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flywheel.cli.options import ConfigOption, JsonOption, SetOption, load_config
from flywheel.cli.output import console, print_json

commands = typer.Typer()
policy = typer.Typer(help="Ask logged traffic about policies that never served.", no_args_is_help=True)
commands.add_typer(policy, name="policy", rich_help_panel="Turns")

REFUSED = 3
"""Exit code of `flywheel policy evaluate` where the logs say too little about the target."""


@policy.command("evaluate")
def evaluate(
    *,
    question: Annotated[
        Path | None, typer.Argument(help="The question as a file (configs/local/policy.yaml).", dir_okay=False)
    ] = None,
    of: Annotated[str | None, typer.Option(help="choices (best of n), lists (/v1/rank), variants (canaries).")] = None,
    temperature: Annotated[float | None, typer.Option(help="Of the target's softmax over scores.")] = None,
    epsilon: Annotated[float | None, typer.Option(help="The target's share of uniform choices.")] = None,
    scores: Annotated[
        Path | None, typer.Option(help="Another ranker's scores: JSON lines or Parquet, inference_id and scores.")
    ] = None,
    version: Annotated[str | None, typer.Option(help="variants: always this one.")] = None,
    outcome: Annotated[str | None, typer.Option(help="thumbs, rating, click, copy, completion, dwell, ...")] = None,
    days: Annotated[int | None, typer.Option(help="Traffic of so many days up to today.")] = None,
    ask: Annotated[list[str] | None, typer.Option("--ask", help="Any key of the question: limits.min_units=50")] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Value of a target policy and its gain over what served, with intervals. Changes nothing.

    Exit code 3: refused, because the logs say too little about that policy; it says why and what to do.
    """
    settings = load_config(config, set_)
    flags = {
        "of": of,
        "temperature": temperature,
        "epsilon": epsilon,
        "scores": None if scores is None else str(scores),
        "version": version,
        "outcome.kind": outcome,
        "days": days,
    }
    asked = _question(question, ask or [], {key: value for key, value in flags.items() if value is not None})
    from flywheel.lake.tables import open_lake
    from flywheel.workflow.offpolicy.report import evaluate_policy

    report = evaluate_policy(open_lake(settings), settings, asked)
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        from flywheel.operate.policy_table import show

        show(report, console())
    raise typer.Exit(REFUSED if report.refused else 0)


def _question(path: Path | None, pairs: list[str], flags: dict[str, Any]) -> Any:
    from flywheel.config import PolicyQuestion, load, parse_overrides
    from flywheel.errors import UsageError

    if path is None and "of" not in {*flags, *parse_overrides(pairs)}:
        raise UsageError(
            "Say what is asked: a file such as configs/local/policy.yaml, or --of choices, --of lists, or "
            "--of variants --version NAME."
        )
    return load(PolicyQuestion, path, {**parse_overrides(pairs), **flags})
