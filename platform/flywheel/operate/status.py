"""What a flow's state is: the routing truth, its turns, and the funnel of the last one.

``status`` returns the contract of ``flywheel status --json``::

    {"live": {"version", "since", "erased": [...]}, "candidates": [...], "canaries": [{"version", "share"}],
     "split": [{"alarm", "text", ...}] how users were split between live and canaries,
     "turns": [{"id", "started", "decision", "reasons": [...], "metrics": {...}}],
     "funnel": {"captured", "consented", "unique", "kept", "dropped": {reason: count}},
     "running": who runs a turn now, or null, "readiness": see ``readiness``,
     "capture": {"mode", "unshipped", "lost": {reason: events}, "corrupt": [path]} of this machine,
     "drift": {"alarm", "at", "text", ...} the first alarm of the live model, else its last test, else null,
     "goodhart": {"alarm", "at", "text", "turn", ...} the first alarm nobody settled, else the last look, else null,
     "notes": [text] what the configuration leaves out and one may take for granted}

``live.erased`` names what the live model was made of and was erased since; empty when it is as it should be.
"""

from __future__ import annotations

from typing import Any

from flywheel.config import FlywheelConfig
from flywheel.lake.erasures import tainted_lineage
from flywheel.lake.tables import Lake
from flywheel.operate.capture_state import capture_state
from flywheel.operate.readiness import readiness
from flywheel.rollout import history, routing
from flywheel.rollout.routing import Routing
from flywheel.rollout.split import check_split
from flywheel.workflow.cadence.drift_check import drift_tests
from flywheel.workflow.turns.goodhart import stored as goodhart
from flywheel.workflow.turns.lease import running
from flywheel.workflow.turns.steps import TurnHandle, turn_ids
from flywheel.workflow.turns.turn import STEP_NAMES, step_key

EMPTY_FUNNEL: dict[str, Any] = {"captured": 0, "consented": 0, "unique": 0, "kept": 0, "dropped": {}}


def status(lake: Lake, config: FlywheelConfig) -> dict[str, Any]:
    """State of one flow, as plain JSON values."""
    truth = routing.current(lake.store, config.flow)
    turns = [_turn(lake, TurnHandle(lake.store, config.flow, turn)) for turn in turn_ids(lake.store, config.flow)]
    holder = running(config, "turn")
    return {
        "flow": config.flow,
        "live": _live(lake, truth) if truth else None,
        "candidates": [{"version": shadow.version, "share": shadow.share} for shadow in truth.shadows] if truth else [],
        "canaries": [{"version": canary.version, "share": canary.share} for canary in truth.canaries] if truth else [],
        "split": _split(lake, truth) if truth else [],
        "turns": turns,
        "funnel": _funnel(lake, config),
        "running": str(holder) if holder else None,
        "readiness": readiness(lake, config),
        "capture": capture_state(config),
        "drift": _drift(lake, truth) if truth else None,
        "goodhart": _goodhart(lake, config.flow),
        "notes": _notes(config),
    }


def _live(lake: Lake, truth: Routing) -> dict[str, Any]:
    version = truth.live.version
    return {
        "version": version,
        "since": truth.ts.isoformat(),
        "erased": tainted_lineage(lake, "model", version) or [],
    }


def _drift(lake: Lake, truth: Routing) -> dict[str, Any] | None:
    tests = drift_tests(lake.store, truth)
    if not tests:
        return None
    told = next((test for test in tests if test.alarm), tests[-1])
    return {**told.model_dump(mode="json"), "text": told.text}


def _goodhart(lake: Lake, flow: str) -> dict[str, Any] | None:
    waiting, every = goodhart.standing(lake.store, flow), goodhart.looks(lake.store, flow)
    if not every:
        return None
    told = waiting[0] if waiting else every[-1]
    kept = told.model_dump(mode="json", include={"turn", "at", "look", "level", "audit", "alarms", "warnings", "text"})
    return {**kept, "alarm": bool(waiting)}


def _notes(config: FlywheelConfig) -> list[str]:
    privacy = config.privacy
    unlisted = "name" in privacy.detectors and privacy.names_file is None
    return ["names are not replaced: privacy.names_file is not set"] if unlisted else []


def _split(lake: Lake, truth: Routing) -> list[dict[str, Any]]:
    return [{**check.model_dump(mode="json"), "text": check.text} for check in check_split(lake, truth)]


def _turn(lake: Lake, turn: TurnHandle) -> dict[str, Any]:
    begun = turn.read("turn") or {}
    finished = turn.read("finished")
    if finished is None:
        done = [name for name in STEP_NAMES if turn.read(step_key(name)) is not None]
        return {
            "id": turn.turn_id,
            "started": begun.get("started"),
            "decision": "continue",
            "reasons": _waits(lake, turn)
            or [f"unfinished after {done[-1] if done else 'nothing'}; run `flywheel turn` to go on"],
            "metrics": {},
        }
    return {
        "id": turn.turn_id,
        "started": begun.get("started"),
        "decision": finished["decision"],
        "reasons": finished["reasons"],
        "metrics": finished.get("metrics", {}),
    }


def _waits(lake: Lake, turn: TurnHandle) -> list[str]:
    """What an open turn's latest verdict waits for: more cases, a person's approval."""
    verdicts = [
        row for row in history.decisions(lake, turn.flow) if row.action == "gate" and row.turn_id == turn.turn_id
    ]
    return [reason.text for reason in verdicts[-1].reasons if reason.outcome == "wait"] if verdicts else []


def _funnel(lake: Lake, config: FlywheelConfig) -> dict[str, Any]:
    for turn in reversed(turn_ids(lake.store, config.flow)):
        curated = TurnHandle(lake.store, config.flow, turn).read(step_key("curate"))
        if curated is not None:
            return curated["funnel"]
    return {**EMPTY_FUNNEL, "captured": lake.read("inferences", flow=config.flow, columns=["inference_id"]).num_rows}
