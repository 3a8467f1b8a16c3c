"""One turn of the flywheel: from what people said about answers to a verdict about a new model.

The list ``STEPS`` is the whole story in order. Each step leaves an artifact; see ``steps.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flywheel.config import FlywheelConfig
from flywheel.errors import FlywheelError, UsageError
from flywheel.lake.keys import Keyring
from flywheel.lake.lease import Held
from flywheel.lake.tables import Lake, open_lake
from flywheel.quality.filters_check import check_filter
from flywheel.records import utcnow
from flywheel.registry.tracking import track
from flywheel.rollout import promotion
from flywheel.rollout.routing import Variant
from flywheel.telemetry import Progress, Silent
from flywheel.workflow.cluster import check_disk, connected
from flywheel.workflow.turns import learn, prepare, verdict
from flywheel.workflow.turns.context import Context
from flywheel.workflow.turns.goodhart.check import look_before_training
from flywheel.workflow.turns.lease import only_one
from flywheel.workflow.turns.needs import check_placeable
from flywheel.workflow.turns.report.gather import gather
from flywheel.workflow.turns.report.page import report_path, write_report
from flywheel.workflow.turns.steps import Artifact, Step, TurnHandle, open_turn, run_steps, turn_ids

Run = Callable[[Context, dict[str, Artifact], Progress], Artifact]
Summary = Callable[[Artifact], str]

STEPS: dict[str, tuple[Run, Summary]] = {
    "snapshot": (prepare.snapshot, lambda a: f"live {a['live']['version']}"),
    "split": (
        prepare.split,
        lambda a: f"{a['failures']:,} failures; cases: " + ", ".join(f"{k} {v:,}" for k, v in a["suites"].items()),
    ),
    "candidates": (
        learn.candidates,
        lambda a: (
            f"{a['candidates']:,} candidates ({a['corrections']:,} corrections, {a['liked']:,} liked) "
            f"of {a['captured']:,} captured"
        ),
    ),
    "reward": (
        learn.reward,
        lambda a: f"{len(a['folds'])} cross-fitted reward models{_unused(a)}" if a["folds"] else f"none: {a['reason']}",
    ),
    "score": (learn.score, lambda a: f"{a['rows']:,} rows, every signal"),
    "sweep": (
        learn.sweep,
        lambda a: (
            f"{a['proposals']} proposals on {a['labels']} tune labels: right kept "
            f"{a['start_right_kept']}/{a['start_kept']} -> {a['right_kept']}/{a['kept']}"
            if a["used"]
            else f"not used: {a['why']}"
        ),
    ),
    "curate": (
        learn.curate,
        lambda a: f"{a['examples']:,} examples ({a['corrections']:,} corrections, {a['liked']:,} liked) in {a['id']}",
    ),
    "scan": (learn.scan, lambda a: f"{a['scanned']:,} texts, {a['leaks']} leaks"),
    "train": (
        learn.train,
        lambda a: f"{a['steps']} steps, {a['tokens']:,} tokens, loss {a['first_loss']:.3f} -> {a['last_loss']:.3f}",
    ),
    "register": (learn.register, lambda a: a["version"]),
    "evaluate": (
        verdict.evaluate,
        lambda a: ", ".join(f"{k} {v['live']:.1%} -> {v['candidate']:.1%}" for k, v in a["suites"].items()),
    ),
    "shadow": (
        verdict.shadow,
        lambda a: (
            a.get("wait")
            or (f"skipped: {a['skipped']}" if a.get("skipped") else f"{a['summary']['n']} pairs from live traffic")
        ),
    ),
    "gate": (verdict.gate, lambda a: a["verdict"]),
    "promote": (verdict.promote, lambda a: f"live: {a['live']}"),
}
STEP_NAMES = tuple(STEPS)


def step_key(name: str) -> str:
    """The artifact name of a step within its turn."""
    return f"{STEP_NAMES.index(name) + 1:02d}-{name}"


def run_turn(
    config: FlywheelConfig,
    *,
    model: Variant | None = None,
    new: bool = False,
    until: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run or resume one turn.

    Args:
        config: the flow.
        model: the first live model, for a flow that has none yet.
        new: abandon an unfinished turn.
        until: stop behind this step (for running stages alone); the turn stays open.
        progress: told about every step.

    Returns:
        ``{"id", "decision", "reasons", "conditions", "metrics", "funnel", "live", "candidate", "report", "steps"}``;
        ``decision`` is promote, reject, continue or inconclusive, ``report`` the page about it or None.

    Raises:
        LeaseHeldError: another turn of this flow is running, here or on another machine.
        UsageError: nothing to turn on yet (says what is missing), or an unfinished turn of another configuration
            or home.
    """
    if until is not None and until not in STEPS:
        raise UsageError(f"'{until}' is no step of a turn; steps: {', '.join(STEPS)}")
    with only_one(config, "turn") as lease:
        return run_turn_under(lease, config, model=model, new=new, until=until, progress=progress)


def run_turn_under(
    lease: Held,
    config: FlywheelConfig,
    *,
    model: Variant | None = None,
    new: bool = False,
    until: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """``run_turn`` for whoever holds the flow's lease already. No step begins once somebody else has taken it over."""
    progress = progress or Silent()
    check_disk(config.home_path())
    lake = open_lake(config)
    if model is not None:
        promotion.start(lake, config, model)
    prepare.check_ready(lake, config)
    check_filter(config.quality.filter)  # hours of scoring later would be late
    if new:
        _unshadow_abandoned(lake, config)
    turn = open_turn(lake.store, config, new=new)
    keyring = Keyring(config.home_path()).check_belongs(lake.store)
    names = STEP_NAMES if until is None else STEP_NAMES[: STEP_NAMES.index(until) + 1]
    context = Context(lake, config, keyring, turn, work_folder(config, turn))
    with connected(config):
        check_placeable(config)
        done = run_steps(turn, [_step(name, context, lease, progress) for name in names], progress)
    result = _result(turn, done)
    if "gate" in done:
        result["report"] = str(write_report(gather(lake, config, turn, done), report_path(config, turn.turn_id)))
    if "promote" in done or "stop" in done.get("curate", {}):
        _finish(config, turn, result)
    return result


def _unshadow_abandoned(lake: Lake, config: FlywheelConfig) -> None:
    """Nobody will judge the candidate of a turn that is about to be abandoned: it is not mirrored to any longer.

    Before the turn is marked, so that a kill in between leaves something to do again.
    """
    for turn_id in turn_ids(lake.store, config.flow)[-1:]:
        turn = TurnHandle(lake.store, config.flow, turn_id)
        registered = turn.read(step_key("register"))
        if registered is not None and turn.read("finished") is None:
            promotion.unshadow(lake, config, registered["version"], reason=f"{turn_id} was abandoned")


def _step(name: str, context: Context, lease: Held, shown: Progress) -> Step:
    run, summary = STEPS[name]

    def guarded(done: dict[str, Artifact], progress: Progress) -> Artifact:
        lease.check()
        if name == "curate":  # everything is scored, nothing has learnt from it yet
            _look(context, shown)
        return run(context, done, progress)

    return Step(name, guarded, summary)


def _look(context: Context, progress: Progress) -> None:
    """Do the signals still mean quality? Said where a person reads it; the gate judges the model by itself.

    A look that fails must not keep a turn from running: it is made again by the next `run` or `flywheel goodhart`.
    """
    try:
        look = look_before_training(context.lake, context.config, context.turn.turn_id)
    except FlywheelError as error:
        progress.start("goodhart")
        progress.finish(f"could not look: {error}")
        return
    if look is not None and look.look != 0:
        progress.start("goodhart")
        progress.finish(f"{'ALARM: ' if look.alarm else ''}{look.text}")


def work_folder(config: FlywheelConfig, turn: TurnHandle) -> Path:
    """Where a turn keeps what is too large for an artifact, on this machine.

    Raises:
        UsageError: the turn came so far in another home, perhaps on another machine, which has its files.
    """
    folder = config.home_path() / "turns" / config.flow / turn.turn_id
    if not folder.exists() and turn.read(step_key("candidates")) is not None:
        begun = turn.read("turn") or {}
        raise UsageError(
            f"{turn.turn_id} was begun in {begun.get('home')}, which holds its files. "
            "Run it again there, or abandon it with `flywheel turn --new`."
        )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _result(turn: TurnHandle, done: dict[str, Artifact]) -> dict[str, Any]:
    waiting = done.get("curate", {}).get("stop") or done.get("shadow", {}).get("wait")
    judged = done.get("gate")
    decision = judged["verdict"] if judged else ("inconclusive" if "stop" in done.get("curate", {}) else "continue")
    return {
        "id": turn.turn_id,
        "decision": decision,
        "reasons": [r["text"] for r in judged["reasons"]] if judged else [waiting or "more steps follow"],
        "conditions": judged["reasons"] if judged else [],
        "metrics": {
            "suites": done.get("evaluate", {}).get("suites", {}),
            "shadow": done.get("shadow", {}).get("summary"),
            "training": {k: done["train"][k] for k in ("steps", "tokens", "first_loss", "last_loss")}
            if "train" in done
            else None,
        },
        "funnel": done.get("curate", {}).get("funnel"),
        "candidate": done.get("register", {}).get("version"),
        "live": done.get("promote", {}).get("live") or done["snapshot"]["live"]["version"],
        "report": None,
        "steps": done,
    }


def _finish(config: FlywheelConfig, turn: TurnHandle, result: dict[str, Any]) -> None:
    """MLflow first: if it is down, the turn says so, stays open, and logs when run again."""
    suites = result["metrics"]["suites"]
    metrics = {f"{name}/{key}": float(row[key]) for name, row in suites.items() for key in ("live", "candidate")}
    track(
        config,
        key=f"turn/{config.flow}/{turn.turn_id}",
        name=turn.turn_id,
        params={"decision": result["decision"], "candidate": result["candidate"], "live": result["live"]},
        metrics=metrics,
    )
    kept = ("decision", "reasons", "metrics", "candidate", "live")
    turn.write("finished", {**{key: result[key] for key in kept}, "at": utcnow().isoformat()})


def _unused(reward: Artifact) -> str:
    """Why the reward model's word does not count, if so."""
    report = reward.get("report")
    return "" if report is None or report["usable"] else f", not used: {report['reason']}"
