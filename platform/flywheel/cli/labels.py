"""Human labels: judge answers at the terminal or elsewhere, and see how well people agree."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flywheel.cli.options import (
    ConfigOption,
    JsonOption,
    RejectsOption,
    SetOption,
    SourceArgument,
    StrictOption,
    load_config,
)
from flywheel.cli.output import console, print_json, progress_bar, show_import
from flywheel.errors import UsageError

if TYPE_CHECKING:
    from flywheel.review.agreement import AgreementReport, Coefficient

commands = typer.Typer()
PANEL = "Evaluation"
labels = typer.Typer(help="Human labels: status, agreement, export, import.", no_args_is_help=True)
commands.add_typer(labels, name="labels", rich_help_panel=PANEL)


class Mode(StrEnum):
    """What is asked about each answer."""

    judge = "judge"
    rate = "rate"
    compare = "compare"


ModeOption = Annotated[
    Mode, typer.Option(help="judge: accept, correct, reject; rate: 1 to 5; compare: against another answer, blind.")
]
CuratedOption = Annotated[bool, typer.Option("--curated", help="The starter set instead of a random sample.")]
InformativeOption = Annotated[
    bool, typer.Option("--informative", help="First what teaches most: disagreement x uncertainty x coverage.")
]
SecondOption = Annotated[
    bool, typer.Option("--second", help="What somebody else judged already, without what they said.")
]


@commands.command(rich_help_panel=PANEL)
def label(
    annotator: Annotated[str, typer.Option(help="Your name, kept with each label.")],
    limit: Annotated[int, typer.Option(min=1, help="How many to show.")] = 100,
    *,
    mode: ModeOption = Mode.judge,
    curated: CuratedOption = False,
    informative: InformativeOption = False,
    second: SecondOption = False,
    adjudicate: Annotated[
        bool, typer.Option("--adjudicate", help="What two people disagree about, with both judgements; yours counts.")
    ] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Judge answers, one key each; s skip, u undo, ? guideline, q quit."""
    from flywheel.lake.tables import open_lake
    from flywheel.review import terminal
    from flywheel.review.guideline import read_guideline
    from flywheel.workflow.exchange.labelling import queue

    source = _source(starter=curated, informative=informative, second=second, adjudicate=adjudicate)
    settings = load_config(config, set_)
    guideline = read_guideline(settings.labels.guideline)
    lake = open_lake(settings)
    items = queue(lake, settings, source=source, question=mode.value, annotator=annotator)[:limit]
    report = terminal.label(
        lake, settings.flow, items,
        annotator=annotator, question=mode.value, guideline=guideline, seed=settings.seed,
    )  # fmt: skip
    print(report.summary())


@labels.command()
def status(config: ConfigOption = None, set_: SetOption = None, as_json: JsonOption = False) -> None:
    """How many labels there are, of whom, for what, and what is disputed."""
    from dataclasses import asdict

    from flywheel.lake.tables import open_lake
    from flywheel.review.labels import read_labels
    from flywheel.review.overview import overview

    settings = load_config(config, set_)
    found = overview(read_labels(open_lake(settings), settings.flow))
    if as_json:
        print_json(asdict(found))
        return
    for name, value in asdict(found).items():
        shown = ", ".join(f"{key} {count:,}" for key, count in value.items()) if isinstance(value, dict) else value
        print(f"{name.replace('_', ' '):<16} {'-' if shown == '' else shown}")
    print(*found.remarks(), sep="\n")


@labels.command()
def agreement(config: ConfigOption = None, set_: SetOption = None, as_json: JsonOption = False) -> None:
    """How well annotators agree, under each guideline: Cohen's kappa by pair, Krippendorff's alpha of all."""
    from dataclasses import asdict

    from flywheel.lake.tables import open_lake
    from flywheel.review.agreement import agreement as measure
    from flywheel.review.labels import read_labels

    settings = load_config(config, set_)
    report = measure(read_labels(open_lake(settings), settings.flow))
    if as_json:
        print_json({**asdict(report), "open": report.open})
        return
    _show_agreement(report)


@labels.command("export")
def export_(
    out: Annotated[Path, typer.Option(help="The file to write.")],
    format_: Annotated[str, typer.Option("--format", help="argilla or label-studio.")],
    *,
    mode: ModeOption = Mode.judge,
    curated: CuratedOption = False,
    informative: InformativeOption = False,
    second: SecondOption = False,
    annotator: Annotated[str, typer.Option(help="With --second: who has not judged these yet.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="How many items.")] = 100,
    purpose: Annotated[
        str, typer.Option(help="What people must have agreed to: evaluation; third_party if the tool is not yours.")
    ] = "evaluation",
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write items to be labelled elsewhere, with the answer filled in, and say how to set up that tool."""
    from flywheel.lake.tables import open_lake
    from flywheel.workflow.exchange.label_files import export_items

    settings = load_config(config, set_)
    source = _source(starter=curated, informative=informative, second=second)
    report = export_items(
        open_lake(settings), settings, out=out, format_=format_, source=source, question=mode.value,
        annotator=annotator, limit=limit, purpose=purpose, force=force,
    )  # fmt: skip
    print_json(report.model_dump(mode="json")) if as_json else print(report.summary(), report.setup, sep="\n\n")


@labels.command("import")
def import_(
    source: SourceArgument,
    format_: Annotated[str, typer.Option("--format", help="argilla or label-studio.")],
    *,
    annotator: Annotated[str | None, typer.Option(help="Who made all of them; default: as the file says.")] = None,
    rejects: RejectsOption = None,
    strict: StrictOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring judgements made elsewhere into the lake as labels; twice changes nothing."""
    from flywheel.lake.tables import open_lake
    from flywheel.workflow.exchange.label_files import import_labels

    settings = load_config(config, set_)
    report = import_labels(
        open_lake(settings), settings, source,
        format_=format_, annotator=annotator, strict=strict, rejects=rejects, progress=progress_bar(as_json),
    )  # fmt: skip
    show_import(report, as_json)


def _source(**chosen: bool) -> Any:
    """The one queue that was asked for."""
    named = [name for name, wanted in chosen.items() if wanted]
    if len(named) > 1:
        raise UsageError("Choose one of --curated, --informative, --second and --adjudicate.")
    return named[0] if named else "random"


def _show_agreement(report: AgreementReport) -> None:
    from rich.table import Table

    if not report.pairs:
        print("Nobody judged what somebody else had judged: flywheel label --second --annotator SOMEBODY_ELSE")
        return
    table = Table(title="Agreement, with 95 % intervals", title_justify="left")
    for column in ("question", "guideline", "annotators", "items", "same"):
        table.add_column(column)
    table.add_column("coefficient", no_wrap=True)
    for row in report.pairs:
        table.add_row(
            row.question, row.guideline_version, " and ".join(row.annotators), f"{row.items:,}", f"{row.same:,}",
            f"kappa {_interval(row.kappa)}",
        )  # fmt: skip
    for row in report.versions:
        table.add_row(
            row.question, row.guideline_version, f"all {len(row.annotators)}", f"{row.items:,}", "",
            f"alpha {_interval(row.alpha)}",
        )  # fmt: skip
    screen = console()
    screen.print(table)
    for one in report.disagreements:
        said = "; ".join(f"{name} {text}" for name, text in one.said.items())
        mark = "settled" if one.settled else "open"
        screen.print(f"{mark:<8} {one.question} {one.inference_id}: {said}", markup=False, highlight=False)
    if report.open:
        print(
            f"{report.open} disputed answers make no case and tune nothing until somebody settles them: "
            "flywheel label --adjudicate --annotator YOU"
        )


def _interval(found: Coefficient) -> str:
    if found.value is None:
        return "undefined"
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"
