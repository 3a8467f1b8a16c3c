"""A sweep of its own, beside the turns: by hand, or as a job of every week.

It looks at the newest turn that scored its candidates, with the labels of now. The winner becomes a file, which
somebody reviews and names in ``quality.filter_file``: it reaches no turn by itself.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from flywheel.config import FlywheelConfig
from flywheel.errors import UsageError
from flywheel.lake.keys import Keyring
from flywheel.lake.lease import Held
from flywheel.lake.tables import Lake, open_lake
from flywheel.records import utcnow
from flywheel.telemetry import Progress, Silent, Within
from flywheel.workflow.cluster import check_disk, connected
from flywheel.workflow.sweeps.result import SweepResult, changes, picture_path, save_filter, save_picture
from flywheel.workflow.turns import learn
from flywheel.workflow.turns.context import Context
from flywheel.workflow.turns.lease import only_one
from flywheel.workflow.turns.steps import Artifact, TurnHandle, turn_ids
from flywheel.workflow.turns.turn import run_turn_under, step_key, work_folder

PERIODS: Final = {"day": "%Y-%m-%d", "week": "%G-W%V", "month": "%Y-%m"}
"""Period -> how one is called (weeks as in ISO 8601)."""
NEEDED: Final = ("snapshot", "split", "candidates", "reward", "score")


def period_name(period: str, now: datetime) -> str:
    """``week`` -> ``2026-W48``.

    Raises:
        UsageError: there is no such period.
    """
    if period not in PERIODS:
        raise UsageError(f"'{period}' is no period; periods: {', '.join(PERIODS)}")
    return f"{now:{PERIODS[period]}}"


def run_sweep(
    config: FlywheelConfig,
    *,
    out: Path,
    period: str | None = None,
    restart: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Search, and write the winning filter to ``out`` with its Pareto plot beside it.

    Stopped at any moment and called again, it goes on behind the trials that were finished.

    Args:
        config: the flow.
        out: the winner's file.
        period: one finished sweep each day, week or month: a later call of the same period gives that one again.
        restart: forget finished trials of the same sweep.
        progress: told about trials.

    Returns:
        ``SweepResult`` as JSON with ``out``, ``picture``, ``turn`` (whose candidates were searched), ``changes``
        (setting -> before, after), ``period``, and ``repeated``: whether it was finished before.

    Raises:
        UsageError: too few tune labels to decide anything, or nothing to sweep yet.
        LeaseHeldError: a turn or another sweep of this flow is running.
    """
    lake, named = open_lake(config), period_name(period, utcnow()) if period else None
    if found := _finished(lake, config, named, out):
        return found
    with only_one(config, "turn") as lease:
        if found := _finished(lake, config, named, out):
            return found
        return _sweep(lease, lake, config, out=out, named=named, restart=restart, progress=progress or Silent())


def _sweep(
    lease: Held,
    lake: Lake,
    config: FlywheelConfig,
    *,
    out: Path,
    named: str | None,
    restart: bool,
    progress: Progress,
) -> dict[str, Any]:
    check_disk(config.home_path())
    with connected(config):
        turn = _scored_turn(lake, config) or _score(lease, lake, config, progress)
        keyring = Keyring(config.home_path()).check_belongs(lake.store)
        context = Context(lake, config, keyring, turn, work_folder(config, turn))
        done = {step: turn.read(step_key(step)) or {} for step in NEEDED}
        lease.check()
        progress.start("sweep", f"candidates of {turn.turn_id}")
        result = learn.search_filter(context, done, out=out, restart=restart, progress=Within(progress))
    progress.finish(f"right kept {result.start_right_kept}/{result.start_kept} -> {result.right_kept}/{result.kept}")
    record = {
        **result.model_dump(mode="json"),
        "turn": turn.turn_id,
        "changes": changes(config.quality.filter, result.best),
        "period": named,
    }
    if named is not None:
        record["svg"] = picture_path(out).read_text(encoding="utf-8")
        lake.store.put_if_absent(_period_key(config, named), _json(record))
        record.pop("svg")
    return _told(record, out, repeated=False)


def _scored_turn(lake: Lake, config: FlywheelConfig) -> TurnHandle | None:
    """The newest turn whose candidates are scored and whose files lie on this machine."""
    for turn_id in reversed(turn_ids(lake.store, config.flow)):
        turn = TurnHandle(lake.store, config.flow, turn_id)
        here = (config.home_path() / "turns" / config.flow / turn_id / "candidates").exists()
        if here and turn.read(step_key("score")) is not None:
            return turn
    return None


def _score(lease: Held, lake: Lake, config: FlywheelConfig, progress: Progress) -> TurnHandle:
    """No turn has come so far: its first steps."""
    found = run_turn_under(lease, config, until="score", progress=progress)
    return TurnHandle(lake.store, config.flow, found["id"])


def _finished(lake: Lake, config: FlywheelConfig, named: str | None, out: Path) -> dict[str, Any] | None:
    """The finished sweep of this period; its files are written again where they are gone."""
    data = None if named is None else lake.store.get_or_none(_period_key(config, named))
    if data is None:
        return None
    record: Artifact = json.loads(data)
    svg = record.pop("svg")
    if not out.exists():
        known = SweepResult.model_validate({key: record[key] for key in SweepResult.model_fields if key in record})
        save_filter(known, out)
        save_picture(svg, out)
    return _told(record, out, repeated=True)


def _told(record: dict[str, Any], out: Path, *, repeated: bool) -> dict[str, Any]:
    return {**record, "out": str(out), "picture": str(picture_path(out)), "repeated": repeated}


def _period_key(config: FlywheelConfig, named: str) -> str:
    return f"sweeps/{config.flow}/periods/{named}.json"


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, default=str).encode()
