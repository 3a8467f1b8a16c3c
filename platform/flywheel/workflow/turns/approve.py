"""``flywheel approve``: a person's yes to one candidate, on the results that it was shown with."""

from __future__ import annotations

from flywheel.config import FlywheelConfig
from flywheel.errors import UsageError
from flywheel.lake.tables import Lake, open_lake
from flywheel.records import Decision
from flywheel.rollout import history
from flywheel.workflow.turns.steps import TurnHandle, turn_ids
from flywheel.workflow.turns.turn import step_key


def approve(config: FlywheelConfig, candidate: str, *, reason: str, actor: str) -> Decision:
    """Store the approval. It counts for this candidate and exactly these results; every other condition still holds.

    Raises:
        UsageError: no open turn waits with this candidate, or there is no reason.
    """
    if not reason.strip():
        raise UsageError("Say why: --reason TEXT. It is kept with the decision.")
    lake = open_lake(config)
    turn = _waiting_turn(lake, config, candidate)
    judged = [row for row in history.decisions(lake, config.flow) if row.turn_id == turn.turn_id]
    verdicts = [row for row in judged if row.action == "gate"]
    if not verdicts:
        raise UsageError(f"{candidate} was not judged yet; run `flywheel turn` first, then look at its report.")
    return history.record_approval(
        lake,
        config,
        turn_id=turn.turn_id,
        candidate=candidate,
        live=verdicts[-1].live or "",
        evidence=verdicts[-1].evidence,
        reason=reason.strip(),
        actor=actor,
    )


def _waiting_turn(lake: Lake, config: FlywheelConfig, candidate: str) -> TurnHandle:
    for turn_id in reversed(turn_ids(lake.store, config.flow)):
        turn = TurnHandle(lake.store, config.flow, turn_id)
        registered = turn.read(step_key("register"))
        if registered is None or registered["version"] != candidate:
            continue
        ended = turn.read("finished")
        if ended is not None:
            raise UsageError(
                f"{turn_id} has ended with {candidate}: {ended['decision']}. An approval is not a way around the gate; "
                "run a new turn."
            )
        return turn
    raise UsageError(
        f"No turn of '{config.flow}' has a candidate '{candidate}'; `flywheel status` shows what there is."
    )
