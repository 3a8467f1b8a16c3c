"""``flywheel due`` and ``flywheel run --if-due``: test for drift, look, take the lease, look again, run one turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flywheel.config import FlywheelConfig
from flywheel.errors import FlywheelError, LeaseHeldError, UsageError
from flywheel.lake.tables import open_lake
from flywheel.records import utcnow
from flywheel.telemetry import Progress
from flywheel.workflow.cadence.cadence import Due, Why, due
from flywheel.workflow.cadence.drift_check import check_drift
from flywheel.workflow.cadence.facts import gather
from flywheel.workflow.cadence.maintain import maintain_daily
from flywheel.workflow.turns.goodhart.check import check_goodhart
from flywheel.workflow.turns.lease import only_one, running
from flywheel.workflow.turns.turn import run_turn_under


@dataclass(frozen=True)
class Outcome:
    """What was decided, and the result of the turn if one ran."""

    due: Due
    turn: dict[str, Any] | None = None


def check(config: FlywheelConfig) -> Due:
    """Whether a turn of this flow is due now. Changes nothing."""
    holder = running(config, "turn")
    return _decide(config, running=str(holder) if holder else None)


def run_if_due(config: FlywheelConfig, *, progress: Progress | None = None) -> Outcome:
    """Run one turn if one is due. Of several callers at once, on whatever machines, one runs it.

    Once a day the lake is looked after first: what runs on a schedule already is the place for it. The live model is
    tested for drift next, if there is a new window of fresh labelled cases. Periods of earlier turns whose audit labels
    came late are looked at then, too (``flywheel goodhart``).
    The cadence is asked again under the lease: the turn that made this one due may just have ended elsewhere.

    Raises:
        UsageError: an unfinished turn belongs to another configuration.
    """
    untested = (*_maintain(config, progress), *_test_drift(config, progress), *_watch(config))
    verdict = check(config)
    if not verdict.due:
        return Outcome(Due(False, verdict.reasons, (*verdict.waiting, *untested)))
    try:
        with only_one(config, "turn") as lease:
            verdict = _decide(config, running=None)
            return Outcome(verdict, run_turn_under(lease, config, progress=progress) if verdict.due else None)
    except LeaseHeldError as error:
        return Outcome(Due(False, verdict.reasons, (Why("running", str(error)), *verdict.waiting)))


def _maintain(config: FlywheelConfig, progress: Progress | None) -> tuple[Why, ...]:
    """Why the lake was not looked after; that must not keep a turn from running either."""
    try:
        maintain_daily(open_lake(config), progress=progress)
    except FlywheelError as error:
        return (Why("maintenance", str(error)),)
    return ()


def _test_drift(config: FlywheelConfig, progress: Progress | None) -> tuple[Why, ...]:
    """Why there was no test, if there was none. A test that fails must not keep a turn from running."""
    if running(config, "turn"):  # it needs the machine, and the next look comes soon enough
        return ()
    try:
        check_drift(config, progress=progress)
    except UsageError:  # no live model: the verdict says so
        return ()
    except FlywheelError as error:
        return (Why("drift test", str(error)),)
    return ()


def _watch(config: FlywheelConfig) -> tuple[Why, ...]:
    """Why the Goodhart monitor could not look."""
    try:
        check_goodhart(open_lake(config), config)
    except FlywheelError as error:
        return (Why("goodhart monitor", str(error)),)
    return ()


def _decide(config: FlywheelConfig, *, running: str | None) -> Due:
    now = utcnow()
    return due(gather(open_lake(config), config, running=running, now=now), config.cadence, now)
