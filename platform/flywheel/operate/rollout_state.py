"""``flywheel rollout status``: where everybody stands, what is seen of them, and what each waits for.

``rollout_state`` returns the contract of ``--json``::

    {"flow", "steps": [...], "routing", "live": {"version", "since", "previous", "watched"},
     "candidates": [{"version", "stage", "share", "since", "enrolled", "paused", "passed", "next", "waits": [...],
                     "requests", "ready", "obstacle", "guards": [...], "quality", "comparisons": [...]}],
     "controller": {"at", "owner", "alive", "problem", "heard"} or null before it ever ran}

It needs the lake only; what the controller sees is what it wrote last, at most a few seconds ago while it lives.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from flywheel.config import FlywheelConfig
from flywheel.lake.tables import Lake
from flywheel.records import utcnow
from flywheel.rollout import history, promotion, routing
from flywheel.rollout.machine.controller import TELL_S, read_told
from flywheel.rollout.machine.rules import next_share
from flywheel.rollout.machine.state import Candidate, state_of

SILENT: Final = timedelta(seconds=6 * TELL_S)
"""A controller that wrote nothing for so long is dead, or cannot reach the lake."""


def rollout_state(lake: Lake, config: FlywheelConfig) -> dict[str, Any]:
    """State of a flow's rollouts, as plain JSON values.

    Raises:
        UsageError: the flow has no live model yet.
    """
    now = promotion.needed(routing.current(lake.store, config.flow), config.flow)
    state = state_of(now, history.decisions(lake, config.flow), lambda n: routing.read(lake.store, config.flow, n))
    told = read_told(lake, config.flow)
    current = told if told is not None and told["routing"] == state.n else None
    sights = {one["version"]: one for one in current["sights"]} if current else {}
    waits = current["waits"] if current else {}
    watched = state.live.promoted and utcnow() - state.live.since < timedelta(minutes=config.rollout.step.watch_minutes)
    return {
        "flow": config.flow,
        "steps": config.rollout.canary_steps,
        "routing": state.n,
        "live": {
            **state.live.model_dump(mode="json", exclude={"promoted"}),
            "watched": bool(config.rollout.canary_steps) and watched and state.live.previous is not None,
            "guards": sights.get(state.live.version, {}).get("guards", []),
        },
        "candidates": [_candidate(one, config, sights.get(one.version, {}), waits) for one in state.candidates],
        "controller": _controller(told),
    }


def _candidate(
    one: Candidate, config: FlywheelConfig, sight: dict[str, Any], waits: dict[str, list[str]]
) -> dict[str, Any]:
    after = next_share(one.share, config.rollout) if one.enrolled and config.rollout.canary_steps else None
    return {
        **one.model_dump(mode="json"),
        "next": (after or "live") if one.enrolled else None,
        "waits": waits.get(one.version, []),
        **{name: sight.get(name) for name in ("requests", "ready", "obstacle", "quality")},
        "guards": sight.get("guards", []),
        "comparisons": sight.get("comparisons", []),
    }


def _controller(told: dict[str, Any] | None) -> dict[str, Any] | None:
    if told is None:
        return None
    heard = max((one["reported"] for one in told["sights"] if one["reported"]), default=None)
    alive = utcnow() - datetime.fromisoformat(told["at"]) < SILENT
    return {**{name: told[name] for name in ("at", "owner", "problem")}, "alive": alive, "heard": heard}
