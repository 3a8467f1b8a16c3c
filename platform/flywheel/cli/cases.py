"""Evaluation cases: where they come from, and a person's decisions about them."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated, Any

import typer

from flywheel.cli.contamination import contamination
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

commands = typer.Typer()
cases = typer.Typer(help="Evaluation cases: mined from failures, approved by people, imported.", no_args_is_help=True)
commands.add_typer(cases, name="cases", rich_help_panel="Evaluation")
cases.command("contamination")(contamination)

IdsArgument = Annotated[list[str] | None, typer.Argument(help="Ids, or beginnings of ids.")]
IdArgument = Annotated[str, typer.Argument(help="The case's id, or its beginning.")]
SuiteOption = Annotated[str | None, typer.Option(help="Only this suite.")]
ClusterOption = Annotated[str | None, typer.Option(help="Only this cluster of alike failures.")]
StatusOption = Annotated[str | None, typer.Option(help="Only these: proposed, active or retired.")]
ReviewerOption = Annotated[str | None, typer.Option(help="Who decides, kept with the case; default: your login.")]
KindOption = Annotated[str | None, typer.Option("--check-kind", help="How answers are marked: exact, json, regex, …")]
ExpectedOption = Annotated[str | None, typer.Option(help="What a right answer is: a text, or JSON for kind json.")]
SliceOption = Annotated[str | None, typer.Option("--slice", help="The group it is reported under.")]
MoveOption = Annotated[str | None, typer.Option("--to-suite", help="Move it to this suite, such as golden.")]


@cases.command("mine")
def mine(config: ConfigOption = None, set_: SetOption = None, as_json: JsonOption = False) -> None:
    """Propose cases from failures: thumbs down, corrections, repeated questions, lost comparisons."""
    from dataclasses import asdict

    from flywheel.lake.tables import open_lake
    from flywheel.workflow.evaluations.casework import mine_cases

    settings = load_config(config, set_)
    report = mine_cases(open_lake(settings), settings, progress=progress_bar(as_json))
    if as_json:
        print_json(asdict(report))
        return
    dropped = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in report.dropped.items())
    print(
        f"{report.failures:,} failures, {report.evaluation_side:,} for evaluation; {report.proposed:,} proposals"
        + (f"; left out: {dropped}" if dropped else "")
    )
    if report.proposed:
        print("look at them with: flywheel cases list --status proposed")


@cases.command("list")
def list_(
    *,
    suite: SuiteOption = None,
    cluster: ClusterOption = None,
    status: StatusOption = None,
    limit: Annotated[int, typer.Option(min=1, help="How many to show.")] = 50,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show cases, those first that most traffic is like."""
    from flywheel.cli.case_views import cases_table
    from flywheel.evaluation.cases import stored_cases
    from flywheel.evaluation.lifecycle import choose
    from flywheel.lake.tables import open_lake

    settings = load_config(config, set_)
    found = choose(stored_cases(open_lake(settings), settings.flow), _choice(None, suite, cluster, status))
    if as_json:
        print_json([case.model_dump(mode="json") for case in found[:limit]])
        return
    terminal = console()
    terminal.print(cases_table(found[:limit], terminal.width) if found else "no such case")
    if len(found) > limit:
        print(f"{len(found) - limit:,} more; --limit {len(found)} shows all")


@cases.command("show")
def show(case: IdArgument, config: ConfigOption = None, set_: SetOption = None, as_json: JsonOption = False) -> None:
    """Show one case: what is asked, the check, its versions, the answer it comes from."""
    from flywheel.cli.case_views import print_case
    from flywheel.lake.tables import open_lake
    from flywheel.workflow.evaluations.casework import show_case

    settings = load_config(config, set_)
    found = show_case(open_lake(settings), settings, case)
    if as_json:
        print_json(found)
    else:
        print_case(console(), found)


@cases.command("approve")
def approve(
    ids: IdsArgument = None,
    *,
    suite: SuiteOption = None,
    cluster: ClusterOption = None,
    check_kind: KindOption = None,
    expected: ExpectedOption = None,
    to_suite: MoveOption = None,
    slice_: SliceOption = None,
    reviewer: ReviewerOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make proposals active, one by one or a whole cluster; with the check that is still missing."""
    from flywheel.evaluation.lifecycle import approved, change_cases
    from flywheel.lake.tables import open_lake

    settings = load_config(config, set_)
    edit = _edit(check_kind, expected, to_suite, slice_)
    # Of a cluster only what waits for a person; a case that is named may also be a retired one.
    choice = _choice(ids, suite, cluster, None if ids else "proposed")
    name = reviewer or getpass.getuser()
    found = change_cases(
        open_lake(settings), settings.flow, choice, lambda case: approved(case, reviewer=name, edit=edit)
    )
    _say("active", found, as_json)


@cases.command("edit")
def edit(
    case: IdArgument,
    *,
    check_kind: KindOption = None,
    expected: ExpectedOption = None,
    to_suite: MoveOption = None,
    slice_: SliceOption = None,
    file: Annotated[
        Path | None, typer.Option(help="YAML or JSON with messages, check, suite, slice or slices.", dir_okay=False)
    ] = None,
    reviewer: ReviewerOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change a case: by options, from a file, or without either in $EDITOR."""
    from flywheel.cli.case_views import edit_in_editor, read_edit
    from flywheel.evaluation.cases import stored_cases
    from flywheel.evaluation.lifecycle import Choice, change_cases, choose, edited
    from flywheel.lake.tables import open_lake

    settings = load_config(config, set_)
    lake = open_lake(settings)
    (found,) = choose(stored_cases(lake, settings.flow), Choice(ids=[case]))
    change = _edit(check_kind, expected, to_suite, slice_)
    draft = settings.home_path() / "run" / f"{found.case_id}.yaml"
    typed = file is None and not change.model_fields_set
    try:
        if file is not None:
            change = read_edit(file)
        elif typed:
            change = edit_in_editor(found, draft)
        name = reviewer or getpass.getuser()
        choice = Choice(ids=[found.case_id])
        changed = change_cases(lake, settings.flow, choice, lambda one: edited(one, change, reviewer=name))
    except UsageError as error:
        if not (typed and draft.exists()):
            raise
        again = f"flywheel cases edit {found.case_id} --file {draft}"
        raise UsageError(f"{error}. What you wrote is kept: correct {draft}, then run `{again}`") from error
    draft.unlink(missing_ok=True)  # it holds somebody's words, and the lake has them now
    _say("changed", changed, as_json)


@cases.command("retire")
def retire(
    ids: IdsArgument = None,
    *,
    suite: SuiteOption = None,
    cluster: ClusterOption = None,
    status: StatusOption = None,
    saturated: Annotated[bool, typer.Option("--saturated", help="Those that the last models all passed.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which.")] = False,
    reviewer: ReviewerOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop evaluating cases. They stay out of training, and in suites that were frozen with them."""
    from flywheel.evaluation.cases import stored_cases
    from flywheel.evaluation.lifecycle import Choice, change_cases, choose, retired_by
    from flywheel.lake.tables import open_lake
    from flywheel.workflow.evaluations.casework import saturated_cases

    settings = load_config(config, set_)
    lake = open_lake(settings)
    choice = _choice(ids, suite, cluster, status)
    if choice.empty and not saturated:
        raise UsageError("name the cases: ids, --suite, --cluster, --status or --saturated")
    found = choose(saturated_cases(lake, settings) if saturated else stored_cases(lake, settings.flow), choice)
    if found and not dry_run:
        name = reviewer or getpass.getuser()
        chosen = Choice(ids=[case.case_id for case in found])
        found = change_cases(lake, settings.flow, chosen, lambda case: retired_by(case, reviewer=name))
    _say("would be retired" if dry_run else "retired", found, as_json)


@cases.command("import")
def cases_import(
    source: SourceArgument,
    *,
    format_: Annotated[
        str, typer.Option("--format", help="flywheel, or lm-eval: SOURCE is a task's YAML file.")
    ] = "flywheel",
    limit: Annotated[int | None, typer.Option(min=1, help="Lines at the most.")] = None,
    to_suite: Annotated[
        str | None, typer.Option("--to-suite", help="lm-eval: the suite; default: the task's name.")
    ] = None,
    rejects: RejectsOption = None,
    strict: StrictOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring your own evaluation cases into the lake, as they are written."""
    from functools import partial

    from flywheel.capture.importer import import_cases, import_task
    from flywheel.lake.tables import open_lake

    if format_ not in {"flywheel", "lm-eval"}:
        raise UsageError(f"there is no format '{format_}' for cases; known: flywheel, lm-eval")
    if format_ == "flywheel" and to_suite:
        raise UsageError("--to-suite is for --format lm-eval; lines of cases name their suites")
    settings = load_config(config, set_)
    bring = partial(import_task, path=Path(source), suite=to_suite) if format_ == "lm-eval" else partial(
        import_cases, place=source
    )  # fmt: skip
    report = bring(
        lake=open_lake(settings),
        config=settings,
        limit=limit,
        strict=strict,
        rejects=rejects,
        progress=progress_bar(as_json),
    )
    show_import(report, as_json)


@cases.command("add")
def add(
    suite: Annotated[str, typer.Argument(help="safety (ours), or regression (what models that were live got right).")],
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Store a suite that Flywheel makes. Name it in evaluation.guard_suites or report_suites to use it."""
    from flywheel.lake.tables import open_lake
    from flywheel.workflow.evaluations.casework import add_suite

    settings = load_config(config, set_)
    count = add_suite(open_lake(settings), settings, suite)
    if as_json:
        print_json({"suite": suite, "cases": count})
    else:
        print(f"{suite}: {count:,} cases")


@cases.command("suites")
def suites(config: ConfigOption = None, set_: SetOption = None, as_json: JsonOption = False) -> None:
    """List the suites, what they are used for, and their frozen versions."""
    from flywheel.cli.case_views import suites_table
    from flywheel.lake.tables import open_lake
    from flywheel.workflow.evaluations.casework import list_suites

    settings = load_config(config, set_)
    rows = list_suites(open_lake(settings), settings)
    if as_json:
        print_json(rows)
    else:
        console().print(suites_table(rows))


@cases.command("freeze")
def freeze(
    suite: Annotated[str, typer.Argument(help="The suite.")],
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fix a suite as it is now under a name of its own, to compare models over time."""
    from flywheel.lake.tables import open_lake
    from flywheel.workflow.evaluations.casework import freeze_suite

    settings = load_config(config, set_)
    name = freeze_suite(open_lake(settings), settings, suite)
    if as_json:
        print_json({"suite": name})
    else:
        print(f"{name}\nuse it with: flywheel evaluate --model live --suite {name}")


def _choice(ids: list[str] | None, suite: str | None, cluster: str | None, status: str | None) -> Any:
    from pydantic import ValidationError

    from flywheel.evaluation.lifecycle import Choice

    try:
        return Choice.model_validate({"ids": ids or [], "suite": suite, "cluster": cluster, "status": status})
    except ValidationError as error:
        raise UsageError(f"--status is proposed, active or retired, not '{status}'") from error


def _edit(check_kind: str | None, expected: str | None, suite: str | None, slice_: str | None) -> Any:
    from flywheel.evaluation.lifecycle import CaseEdit, check_of

    if (check_kind is None) != (expected is None):
        raise UsageError("--check-kind and --expected belong together")
    check = check_of(check_kind, expected) if check_kind is not None and expected is not None else None
    given = {"check": check, "suite": suite, "slice": slice_}
    return CaseEdit.model_validate({name: value for name, value in given.items() if value is not None})


def _say(what: str, found: list[Any], as_json: bool) -> None:
    if as_json:
        print_json([case.model_dump(mode="json") for case in found])
        return
    for case in found:
        print(f"{case.case_id} v{case.version} {case.suite} {case.status}")
    print(f"{len(found):,} {what}")
