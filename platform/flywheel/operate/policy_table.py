"""What a person sees of `flywheel policy evaluate`."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flywheel.config.offpolicy import PolicyQuestion
from flywheel.text.visible import one_line
from flywheel.workflow.offpolicy.report import Number, PolicyReport


def show(report: PolicyReport, console: Console) -> None:
    """The answer in a sentence, every estimator, and what was left out."""
    _print(console, said(report), "bold red" if report.refused else "bold")
    for why in report.headline.refused:
        _print(console, f"  {why.text}")
    if report.rows:
        console.print(_estimates(report))
    if report.looked_at:
        places = ", ".join(f"{one.mean:.2f} [{one.low:.2f}, {one.high:.2f}]" for one in report.looked_at)
        _print(console, f"places are looked at, relative to the first: {places}")
    _print(console, f"{report.rows:,} of {report.rows_seen:,} rows, {report.units:,} users or sessions")
    for reason, rows in report.left_out.items():
        _print(console, f"  left out: {rows:,} {reason.replace('_', ' ')}", "yellow")


def said(report: PolicyReport) -> str:
    """The answer in one sentence."""
    name, best = target(report.question), report.headline
    if best.value is None or best.gain is None or report.logged is None:
        return f"Refused: the logs say too little about {name}."
    verdict = "no difference is shown"
    if best.gain.low > 0 or best.gain.high < 0:
        verdict = "better" if best.gain.low > 0 else "worse"
    return (
        f"{name}: {report.question.outcome.kind} {_number(best.value)} against {_number(report.logged)} that was "
        f"served; gain {_number(best.gain, sign=True)}: {verdict} ({best.estimator}, {report.question.confidence:.0%})"
    )


def target(question: PolicyQuestion) -> str:
    """The target policy in words."""
    if question.of == "variants":
        split = ", ".join(f"{name} {share:.0%}" for name, share in question.variants().items())
        return f"always {question.version}" if question.version else f"a split of {split}"
    by = "the logged scores" if question.scores is None else f"the scores of {question.scores.name}"
    if question.policy == "uniform":
        return "uniform choices"
    form = f"softmax at {question.temperature:g}" if question.policy == "softmax" else "the best"
    return f"{form}, epsilon {question.epsilon:g}, by {by}"


def _estimates(report: PolicyReport) -> Table:
    table = Table(title="Estimates", title_justify="left")
    for column in ("estimator", "value", "gain", "effective", "largest weight", "mean weight"):
        table.add_column(column, justify="left" if column == "estimator" else "right")
    for one in report.estimates:
        refused = ", ".join(why.code for why in one.refused)
        table.add_row(
            one.estimator,
            _number(one.value) if one.value else f"refused: {refused}",
            _number(one.gain, sign=True) if one.gain else "-",
            f"{one.effective:,.0f}",
            f"{one.max_weight:,.1f}",
            f"{one.mean_weight:.3f}",
            style="bold" if one.estimator == report.headline.estimator else "" if one.value else "dim",
        )
    if report.model_says is not None:
        table.add_row("dm (the model's word)", f"{report.model_says:.4f}", "-", "-", "-", "-", style="dim")
    return table


def _number(one: Number, *, sign: bool = False) -> str:
    form = "+.4f" if sign else ".4f"
    return f"{one.mean:{form}} [{one.low:{form}}, {one.high:{form}}]"


def _print(console: Console, line: str, style: str = "") -> None:
    console.print(Text(one_line(line), style=style), soft_wrap=True)
