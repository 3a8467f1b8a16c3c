"""``flywheel``: the command line. Thin: every command parses, imports one function, calls it, shows the result.

Heavy imports stay inside the commands, so ``--help`` answers at once.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from flywheel import __version__
from flywheel.config import FlywheelConfig, load
from flywheel.config.loader import parse_overrides
from flywheel.errors import EnvironmentProblem, FlywheelError, UsageError
from flywheel.telemetry import Progress, Silent

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
def up(
    model: Annotated[str | None, typer.Option(help="What serves first: a version, a folder, or 'tiny'.")] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start gateway, engines and capture, and print how to talk to them."""
    from flywheel.demo.models import first_model
    from flywheel.operate import processes

    settings = _load(config, set_)
    progress = _progress(as_json)
    variant = first_model(settings, model, progress) if model else None
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
    new: Annotated[bool, typer.Option("--new", help="Abandon an unfinished turn of another configuration.")] = False,
    as_json: JsonOption = False,
) -> None:
    """One turn: score, filter, train, evaluate, shadow, decide. Killed and run again, it goes on where it was."""
    from flywheel.workflow.turn import run_turn

    settings = _load(config, set_)
    variant = None
    if model:
        from flywheel.demo.models import first_model

        variant = first_model(settings, model, _progress(as_json))
    result = run_turn(settings, model=variant, new=new, progress=_progress(as_json))
    _show_turn(result, as_json)


@app.command()
def demo(
    config: ConfigOption = None,
    set_: SetOption = None,
    sabotage: Annotated[bool, typer.Option("--sabotage", help="40 % hostile feedback and no filter.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave gateway and engines running at the end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """One full turn on simulated product traffic, from an empty folder to a better live model."""
    from flywheel.demo.run import run_demo

    result = run_demo(config, set_ or [], sabotage=sabotage, keep=keep, progress=_progress(as_json))
    _show_turn(result, as_json)
    if not as_json:
        from flywheel.operate.render import demo_summary

        demo_summary(result, _console())
    expected = "reject" if sabotage else "promote"
    if result["decision"] != expected:
        raise FlywheelError(f"The demo should have ended with '{expected}' and ended with '{result['decision']}'.")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="JSON lines, one interaction a line (see README).")],
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring your own logs into the lake."""
    from flywheel.capture.importer import import_interactions
    from flywheel.lake.keys import Keyring
    from flywheel.lake.tables import open_lake

    settings = _load(config, set_)
    report = import_interactions(
        open_lake(settings), settings, Keyring(settings.home_path()), file, progress=_progress(as_json)
    )
    _print_json(report.model_dump(mode="json")) if as_json else print(report.summary())


@cases_app.command("import")
def cases_import(
    file: Annotated[Path, typer.Argument(help="JSON lines, one evaluation case a line (see README).")],
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring your own evaluation cases into the lake."""
    from flywheel.capture.importer import import_cases
    from flywheel.lake.tables import open_lake

    settings = _load(config, set_)
    report = import_cases(open_lake(settings), settings, file, progress=_progress(as_json))
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


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, default=str))
