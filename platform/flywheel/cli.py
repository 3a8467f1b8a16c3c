"""``flywheel``: the command line. Thin: every command parses, imports one function, calls it, shows the result.

Heavy imports stay inside the commands, so ``--help`` answers at once.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from flywheel import __version__
from flywheel.config import FlywheelConfig, load
from flywheel.config.loader import parse_overrides
from flywheel.errors import EnvironmentProblem, FlywheelError, UsageError
from flywheel.telemetry import Progress, Silent

_json_output: TextIO | None = None

app = typer.Typer(
    help="A data flywheel for language models: product traffic in, better models out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
cases_app = typer.Typer(help="Evaluation cases.", no_args_is_help=True)
models_app = typer.Typer(help="Model versions.", no_args_is_help=True)
app.add_typer(cases_app, name="cases")
app.add_typer(models_app, name="models")

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="FLYWHEEL_CONFIG",
        help="Configuration; default: flywheel.yaml, configs/local/flywheel.yaml",
    ),
]
SetOption = Annotated[list[str] | None, typer.Option("--set", "-s", help="Override one key: training.epochs=2")]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable result on standard output.")]
SourceArgument = Annotated[
    str, typer.Argument(help="A file, a folder, or s3://bucket/prefix: JSON lines or JSON, gzip or not (see README).")
]
RejectsOption = Annotated[
    Path | None, typer.Option(help="Where bad lines are listed; default: below <home>/rejects.", dir_okay=False)
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Stop at the first bad line, with nothing stored.")]


NOT_DUE = 3
"""Exit code of `flywheel due` when no turn is due: neither success nor one of the failures."""


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


@app.command("config")
def show_config(config: ConfigOption = None, set_: SetOption = None) -> None:
    """Print the effective configuration, every key with its value."""
    import yaml

    print(yaml.safe_dump(_load(config, set_).model_dump(mode="json"), sort_keys=False), end="")


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where; made if it does not exist.")] = Path(),
    *,
    flow: Annotated[str | None, typer.Option(help="Name of the flow.")] = None,
    model: Annotated[str | None, typer.Option(help="What serves first: a model folder, a version, or 'tiny'.")] = None,
    lake: Annotated[str | None, typer.Option(help="'local', a folder, or s3://bucket/prefix.")] = None,
    consent: Annotated[str | None, typer.Option(help="Purposes the example client states, or 'none'.")] = None,
    schedule: Annotated[str | None, typer.Option(help="none, daily, weekly, or five cron fields.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing; take the defaults.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Start a flow: its configuration, an example client and a checklist. Asks for what no flag says."""
    from flywheel.operate.init import collect, write

    given = {"flow": flow, "model": model, "lake": lake, "consent": consent, "schedule": schedule}
    ask = sys.stdin.isatty() and not yes and not as_json
    prompt = (lambda question, default: typer.prompt(question, default=default, err=True)) if ask else None
    done = write(folder, collect(given, folder, prompt), force=force)
    if as_json:
        _print_json({"folder": str(folder.resolve()), "files": done})
        return
    for name, action in done.items():
        print(f"{action:<9}  {folder / name}{'  (--force overwrites it)' if action == 'kept' else ''}")
    print(f"Next:\n  {'' if folder == Path() else f'cd {folder} && '}flywheel up\n  flywheel status")


@app.command()
def up(
    model: Annotated[
        str | None, typer.Option(help="What serves first: 'tiny', 'smollm2', a version, a folder, a Hugging Face id.")
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start gateway, engines and capture, and print how to talk to them."""
    from flywheel.demo.models import starting_model
    from flywheel.operate import processes

    settings = _load(config, set_)
    progress = _progress(as_json)
    variant = starting_model(settings, model, progress)
    progress.start("up")
    running = processes.up(settings, model=variant, progress=progress)
    progress.finish(f"{running.url} serves {running.live}")
    if as_json:
        _print_json(running.__dict__)
        return
    print(
        f"\nTry it:\n  curl {running.url}/v1/chat/completions -H 'content-type: application/json' "
        "-H 'x-flywheel-consent: training,evaluation' "
        '-d \'{"user": "ada", "messages": [{"role": "user", "content": "my order never arrived"}]}\'\n'
        "Then:\n  flywheel status      what is live, and what the last turn did\n"
        "  flywheel turn        one turn of the flywheel\n  flywheel down        stop everything"
    )


@app.command()
def down(config: ConfigOption = None, set_: SetOption = None, as_json: JsonOption = False) -> None:
    """Stop what `up` started. Nothing stored is lost."""
    from flywheel.operate import processes

    stopped = processes.down(_load(config, set_))
    if as_json:
        _print_json({"stopped": stopped})
    else:
        print("stopped" if stopped else "nothing was running")


@app.command()
def status(config: ConfigOption = None, set_: SetOption = None, as_json: JsonOption = False) -> None:
    """What is live, what is being tried, and what the turns decided."""
    from flywheel.lake.tables import open_lake
    from flywheel.operate.status import status as read_status

    settings = _load(config, set_)
    state = read_status(open_lake(settings), settings)
    if as_json:
        _print_json(state)
        return
    from flywheel.operate.render import status_tables

    status_tables(state, _console())


@app.command()
def turn(
    model: Annotated[str | None, typer.Option(help="First live model, for a flow that has none yet.")] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    new: Annotated[bool, typer.Option("--new", help="Abandon an unfinished turn.")] = False,
    as_json: JsonOption = False,
) -> None:
    """One turn: score, filter, train, evaluate, shadow, decide. Killed and run again, it goes on where it was."""
    from flywheel.demo.models import starting_model
    from flywheel.workflow.turn import run_turn

    settings = _load(config, set_)
    variant = starting_model(settings, model, _progress(as_json))
    result = run_turn(settings, model=variant, new=new, progress=_progress(as_json))
    _show_turn(result, as_json)


@app.command()
def due(config: ConfigOption = None, set_: SetOption = None, as_json: JsonOption = False) -> None:
    """Is a turn due, and why? Exit code 0: yes, 3: no; so `flywheel due && flywheel turn` works."""
    from dataclasses import asdict

    from flywheel.workflow.autorun import check

    found = check(_load(config, set_))
    if as_json:
        _print_json(asdict(found))
    else:
        from flywheel.operate.render import due_lines

        due_lines(found, _console())
    raise typer.Exit(0 if found.due else NOT_DUE)


@app.command()
def run(
    if_due: Annotated[bool, typer.Option("--if-due", help="One turn if one is due, else nothing.")] = False,
    every: Annotated[str | None, typer.Option(help="The same again and again: 30m, 1h. Ends at SIGTERM.")] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a turn when one is due (see `due`). Two at once, on whatever machines, do one turn."""
    if not if_due and every is None:
        raise UsageError("Say --if-due or --every 1h; for a turn whether due or not there is `flywheel turn`.")
    settings = _load(config, set_)
    if every is not None:
        from flywheel.operate.scheduler import parse_duration, run_every

        options = [*(["--config", str(config)] if config else []), *(f"--set={pair}" for pair in set_ or [])]
        command = [sys.executable, "-m", "flywheel", "run", "--if-due", *options, *(["--json"] if as_json else [])]
        run_every(command, parse_duration(every), say=lambda text: print(text, file=sys.stderr, flush=True))
        return
    from dataclasses import asdict

    from flywheel.workflow.autorun import run_if_due

    outcome = run_if_due(settings, progress=_progress(as_json))
    if as_json:
        _print_json(asdict(outcome))
    elif outcome.turn is not None:
        _show_turn(outcome.turn, as_json=False)
    else:
        print(f"not due: {'; '.join(f'{why.name}: {why.text}' for why in outcome.due.waiting)}")


@app.command()
def demo(
    *,
    config: ConfigOption = None,
    set_: SetOption = None,
    sabotage: Annotated[bool, typer.Option("--sabotage", help="40 % hostile feedback and no filter.")] = False,
    model: Annotated[
        str, typer.Option(help="'tiny', or a general model that learns the product first: 'smollm2', a folder, an id.")
    ] = "tiny",
    keep: Annotated[bool, typer.Option("--keep", help="Leave gateway and engines running at the end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """One full turn on simulated product traffic, from an empty folder to a better live model."""
    from flywheel.demo.run import run_demo

    result = run_demo(config, set_ or [], model=model, sabotage=sabotage, keep=keep, progress=_progress(as_json))
    _show_turn(result, as_json)
    if not as_json:
        from flywheel.operate.render import demo_summary

        demo_summary(result, _console())
    expected = "reject" if sabotage else "promote"
    if result["decision"] != expected:
        raise FlywheelError(f"The demo should have ended with '{expected}' and ended with '{result['decision']}'.")


@app.command("import")
def import_(
    source: SourceArgument,
    *,
    format_: Annotated[str, typer.Option("--format", help="auto, flywheel, openai, langfuse or mlflow.")] = "auto",
    flow: Annotated[str | None, typer.Option(help="Flow of lines that name none; default: the configured one.")] = None,
    user: Annotated[str | None, typer.Option(help="User of lines that name none; default: each its own.")] = None,
    user_field: Annotated[str | None, typer.Option(help="Where lines hold the user: metadata.customer")] = None,
    consent: Annotated[
        str | None,
        typer.Option(help="What people agreed to, for lines that do not say: training,evaluation; default: nothing."),
    ] = None,
    rejects: RejectsOption = None,
    strict: StrictOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring your own logs into the lake: Flywheel's lines, OpenAI fine-tuning files, Langfuse or MLflow traces."""
    from flywheel.capture.importer import import_interactions
    from flywheel.capture.readers import Reading, read_purposes
    from flywheel.lake.keys import Keyring
    from flywheel.lake.tables import open_lake

    settings = _load(config, set_)
    report = import_interactions(
        open_lake(settings),
        settings,
        Keyring(settings.home_path()),
        source,
        reading=Reading(format_, flow, user, user_field, read_purposes(consent)),
        strict=strict,
        rejects=rejects,
        progress=_progress(as_json),
    )
    _show_import(report, as_json)


@cases_app.command("import")
def cases_import(
    source: SourceArgument,
    *,
    rejects: RejectsOption = None,
    strict: StrictOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring your own evaluation cases into the lake, as they are written."""
    from flywheel.capture.importer import import_cases
    from flywheel.lake.tables import open_lake

    settings = _load(config, set_)
    report = import_cases(
        open_lake(settings), settings, source, strict=strict, rejects=rejects, progress=_progress(as_json)
    )
    _show_import(report, as_json)


@app.command()
def export(
    name: Annotated[str, typer.Argument(help="A table of the lake, or the id of a dataset.")],
    *,
    out: Annotated[Path, typer.Option(help="The file to write.")],
    format_: Annotated[
        str | None,
        typer.Option("--format", help="parquet, jsonl, or chat (OpenAI fine-tuning); default: by the file's name."),
    ] = None,
    flow: Annotated[str | None, typer.Option(help="Default: the configured one.")] = None,
    purpose: Annotated[
        str | None, typer.Option(help="What people must have agreed to: training, evaluation or third_party.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a table or dataset to a file, without the rows whose people do not agree to it now."""
    from flywheel.lake.tables import open_lake
    from flywheel.workflow.export import export as write

    settings = _load(config, set_)
    report = write(
        open_lake(settings), settings, name,
        out=out, format_=format_, flow=flow, purpose=purpose, force=force, progress=_progress(as_json),
    )  # fmt: skip
    _print_json(report.model_dump(mode="json")) if as_json else print(report.summary())


@app.command()
def evaluate(
    model: Annotated[str, typer.Option(help="A version, 'live', or a model folder.")],
    suite: Annotated[list[str], typer.Option(help="Suite to run; repeat for several.")],
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a model on evaluation suites."""
    from flywheel.workflow.evaluate import evaluate_model

    result = evaluate_model(_load(config, set_), model=model, suites=suite, progress=_progress(as_json))
    if as_json:
        _print_json(result)
        return
    for name, row in result["suites"].items():
        low, high = row["interval"]
        print(f"{name}: {row['accuracy']:.1%}  [{low:.1%}, {high:.1%}]  on {row['n']:,} cases, {row['errors']} errors")


@app.command()
def label(
    annotator: Annotated[str, typer.Option(help="Your name, kept with each label.")],
    limit: Annotated[int, typer.Option(min=1, help="How many to show.")] = 100,
    curated: Annotated[bool, typer.Option("--curated", help="The starter set instead of a random sample.")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Judge answers, one key each: a accept, c correct, s skip, u undo, q quit."""
    from flywheel.lake.tables import open_lake
    from flywheel.review import terminal
    from flywheel.workflow.labelling import queue

    settings = _load(config, set_)
    lake = open_lake(settings)
    items = queue(lake, settings, curated=curated)[:limit]
    report = terminal.label(lake, settings.flow, items, annotator=annotator)
    print(f"{report.accepted} accepted, {report.corrected} corrected, {report.skipped} skipped, {report.left} left")


@app.command()
def sweep(
    out: Annotated[Path, typer.Option(help="Where the winning filter is written.")] = Path("filter.yaml"),
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search the filter thresholds against the `tune` labels; use the winner with quality.filter_file."""
    from flywheel.workflow.turn import run_sweep

    result = run_sweep(_load(config, set_), out=out, progress=_progress(as_json))
    _print_json(result) if as_json else print(
        f"{out}: score {result['value']:.3f} from {result['proposals']} proposals "
        f"(the current filter scores {result['start_value']:.3f}). Use it: --set quality.filter_file={out}"
    )


@app.command()
def rollback(
    reason: Annotated[str, typer.Option(help="Why; kept in the decisions.")],
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the previous live model live again."""
    from flywheel.lake.tables import open_lake
    from flywheel.rollout.promotion import rollback as roll_back

    settings = _load(config, set_)
    change = roll_back(open_lake(settings), settings, reason=reason, actor=os.environ.get("USER", "operator"))
    truth = change.routing
    if as_json:
        _print_json({"changed": change.changed, "notes": change.notes, **truth.model_dump(mode="json")})
    else:
        print(f"live: {truth.live.version} (routing {truth.n}){'' if change.changed else ', as it was'}")


@app.command()
def forget(
    *,
    user: Annotated[str, typer.Option(help="The person, as requests name them; anonymous:SESSION without a name.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a person from every store, for good, and mark what learnt from them."""
    from flywheel.operate.render import show_erasure
    from flywheel.workflow import erase

    settings = _load(config, set_)
    if not (yes or dry_run or sys.stdin.isatty()):
        raise UsageError("This removes data for good, so it asks first. Without a terminal, pass --yes or --dry-run.")
    if dry_run or not yes:
        found = erase.look(settings, user)
        _print_json(found.model_dump(mode="json")) if as_json and dry_run else show_erasure(found, _console(as_json))
        if dry_run or not typer.confirm("Remove this for good?", err=as_json):
            return
    done = erase.forget(settings, user, progress=_progress(as_json))
    _print_json(done.model_dump(mode="json")) if as_json else show_erasure(done, _console())


@models_app.command("build")
def models_build(
    name: Annotated[str, typer.Argument(help="'tiny': the small built-in base, trained here in about a minute.")],
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Build a built-in model."""
    from flywheel.demo.models import first_model

    variant = first_model(_load(config, set_), name, _progress(as_json=False))
    print(f"{variant.version}: {variant.folder}")


def main() -> None:
    """Entry point: one clear sentence for every expected failure; 2 for usage, 1 for failure."""
    if "--json" in sys.argv:
        _reserve_stdout()
    try:
        app()
    except FlywheelError as error:
        _fail(str(error), error.exit_code)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _fail(str(EnvironmentProblem("The disk is full. Free some space and run the same command again.")), 1)
    except KeyboardInterrupt:
        _fail("Interrupted. What is finished is stored; run the same command to go on.", 130)


def _fail(message: str, code: int) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)


def _load(path: Path | None, overrides: list[str] | None) -> FlywheelConfig:
    if path is None:
        path = next((p for p in (Path("flywheel.yaml"), Path("configs/local/flywheel.yaml")) if p.exists()), None)
    return load(FlywheelConfig, path, parse_overrides(overrides or []))


def _console(stderr: bool = False) -> Any:
    from rich.console import Console

    return Console(stderr=stderr)


def _progress(as_json: bool) -> Progress:
    if as_json:
        return Silent()
    from rich.console import Console

    from flywheel.operate.render import TerminalProgress

    return TerminalProgress(Console(stderr=True))


def _show_import(report: Any, as_json: bool) -> None:
    if as_json:
        _print_json(report.model_dump(mode="json"))
    else:
        print("\n".join([report.summary(), *report.remarks()]))
    if report.all_bad:
        raise FlywheelError(f"{report.source}: every line was rejected. Correct the file, or name its format.")


def _show_turn(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _print_json(result)
        return
    from flywheel.operate.render import before_after_table, funnel_table, verdict_table

    console = _console()
    if result["funnel"]:
        console.print(funnel_table(result["funnel"]))
    if result["metrics"]["suites"]:
        console.print(before_after_table(result["metrics"]))
    if result["conditions"]:
        console.print(verdict_table(result["decision"], result["conditions"]))
    else:
        console.print(f"{result['id']}: {result['decision']}. {'; '.join(result['reasons'])}")


def _reserve_stdout() -> None:
    """Only our JSON goes to standard output; what libraries and child processes print goes to standard error."""
    global _json_output  # noqa: PLW0603  (one stream a process, as sys.stdout is)
    sys.stdout.flush()
    _json_output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, default=str), file=_json_output or sys.stdout, flush=True)
