"""``flywheel report``: the report of any turn that came to a verdict, made again from the lake."""

from __future__ import annotations

from flywheel.config import FlywheelConfig
from flywheel.errors import UsageError
from flywheel.lake.tables import Lake, open_lake
from flywheel.rollout import history
from flywheel.workflow.turns.report.gather import gather
from flywheel.workflow.turns.report.model import GateReport
from flywheel.workflow.turns.steps import TurnHandle, turn_ids
from flywheel.workflow.turns.turn import STEP_NAMES, step_key


def report(config: FlywheelConfig, name: str = "latest") -> GateReport:
    """What a turn's verdict rests on.

    Args:
        config: the flow.
        name: a turn, or ``latest``: the latest one with a verdict.

    Raises:
        UsageError: there is no such turn, or it has no verdict.
    """
    lake = open_lake(config)
    turn = pick_turn(lake, config, name)
    found = {step: turn.read(step_key(step)) for step in STEP_NAMES}
    return gather(lake, config, turn, {step: artifact for step, artifact in found.items() if artifact is not None})


def pick_turn(lake: Lake, config: FlywheelConfig, name: str) -> TurnHandle:
    """A turn by its id, or the latest one with a verdict.

    Raises:
        UsageError: there is no such turn, or it has no verdict.
    """
    judged = {row.turn_id for row in history.decisions(lake, config.flow) if row.action == "gate"}
    known = turn_ids(lake.store, config.flow)
    found = [turn for turn in known if turn in judged and name in ("latest", turn)]
    if found:
        return TurnHandle(lake.store, config.flow, found[-1])
    if name in known:
        raise UsageError(f"{name} has no verdict, so there is nothing to report; `flywheel status` says how it ended.")
    if name != "latest":
        raise UsageError(f"'{config.flow}' has no turn '{name}'; it has: {', '.join(known) or 'none yet'}.")
    raise UsageError(f"No turn of '{config.flow}' has come to a verdict yet; run one with `flywheel turn`.")
