"""Judges: models that compare answers."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from flywheel.cli.options import ConfigOption, JsonOption, SetOption, load_config
from flywheel.cli.output import print_json, progress_bar
from flywheel.errors import UsageError

commands = typer.Typer()
judge = typer.Typer(help="Judges: models that compare answers.", no_args_is_help=True)
commands.add_typer(judge, name="judge", rich_help_panel="Evaluation")
MODES = ("pairwise", "pointwise")


@judge.command()
def run(
    *,
    candidate: Annotated[str, typer.Option(help="Version whose stored answers are judged.")],
    live: Annotated[str, typer.Option(help="Version that it is compared with.")] = "live",
    suite: Annotated[str | None, typer.Option(help="Judge stored results of this suite.")] = None,
    shadow: Annotated[bool, typer.Option("--shadow", help="Judge the candidate's shadow pairs.")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the stored answers of two models; what was judged before is not asked again."""
    from flywheel.workflow.evaluations.judge_runs import run as judge_answers

    if shadow == (suite is not None):
        raise UsageError("Say what to judge: either --suite NAME or --shadow.")
    settings = load_config(config, set_)
    result = judge_answers(settings, candidate=candidate, live=live, suite=suite, progress=progress_bar(as_json))
    if as_json:
        print_json(result)
        return
    rate = result["win_rate"]
    print(f"{candidate} against {result['live']}: {rate['wins']} won, {rate['losses']} lost, {rate['ties']} tied, "
          f"{rate['abstained']} abstained ({rate['invalid']} of them invalid)")  # fmt: skip
    print(f"win rate {_share(rate['raw'], rate['raw_interval'])}; "
          f"length aside {_share(rate['controlled'], rate['controlled_interval'])}")  # fmt: skip
    left_out = {**result["dropped"], **({"failed": result["failed"]} if result["failed"] else {})}
    if left_out:
        print("not judged: " + ", ".join(f"{count} {reason}" for reason, count in left_out.items()))
    _verdict(result)


@judge.command()
def calibrate(
    *,
    mode: Annotated[str, typer.Option(help="pairwise (compare) or pointwise (mark).")] = "pairwise",
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the judge's agreement with people (labels of split tune), and attack it."""
    from flywheel.workflow.evaluations.judge_runs import calibrate as measure

    if mode not in MODES:
        raise UsageError(f"There is no mode '{mode}'; there are pairwise and pointwise.")
    result = measure(load_config(config, set_), mode=mode, progress=progress_bar(as_json))  # type: ignore[arg-type]
    if as_json:
        print_json(result)
        return
    _calibration(result)
    _verdict(result)


@judge.command()
def status(
    *,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Which judge is configured, and what its word is worth now."""
    from flywheel.workflow.evaluations.judge_runs import status as look

    result = look(load_config(config, set_))
    if as_json:
        print_json(result)
        return
    if result["judge"] is None:
        print(result["why"])
        return
    outside = ", outside the cluster: sees only what people agreed to give to third parties"
    print(f"{result['judge']}: {result['model']} ({result['backend']}{outside if result['third_party'] else ''}), "
          f"{result['judgements']:,} judgements")  # fmt: skip
    for name, mode in result["modes"].items():
        print(f"{name}: ", end="")
        if "kappa" in mode:
            _calibration(mode)
        _verdict(mode)


def _calibration(result: dict[str, Any]) -> None:
    kappa, bias = result["kappa"], result["bias"]
    low, high = result["interval"] or (None, None)
    print(f"kappa {'undefined' if kappa is None else f'{kappa:.2f}'} [{_number(low)}, {_number(high)}] on "
          f"{result['labels']} labels, {result['abstained']} abstained")  # fmt: skip
    worst = bias["worst_constant"]
    print(f"position bias {_percent(bias['position_bias'])}, filler wins {_percent(bias['padded_wins']['share'])}, "
          f"injected sentences {bias['injections']['hits']} of {bias['injections']['n']}, constant answer '{worst}' "
          f"{_percent(bias['constants'][worst]['share'] if worst else None)}")  # fmt: skip


def _verdict(result: dict[str, Any]) -> None:
    print(f"{'counts' if result['may_gate'] else 'does not count'} in the gate: {result['why']}")


def _share(value: float | None, interval: list[float] | None) -> str:
    ends = f" [{interval[0]:.1%}, {interval[1]:.1%}]" if interval else ""
    return f"{_percent(value)}{ends}"


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.2f}"
