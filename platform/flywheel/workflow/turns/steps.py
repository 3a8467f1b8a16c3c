"""A turn as named steps, each of which leaves an artifact; a finished step never runs again.

Artifacts are JSON objects at ``turns/<flow>/<turn>/<nn>-<step>.json``, created put-if-absent: whatever
dies between two steps, the next run starts behind the last artifact. A step must therefore be safe to
repeat up to its artifact: exactly-once lake commits and content-addressed names make it so.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flywheel.config import FlywheelConfig, config_hash
from flywheel.errors import BusyError, UsageError
from flywheel.lake.store import ObjectStore
from flywheel.records import utcnow
from flywheel.telemetry import Progress, Within

Artifact = dict[str, Any]

_RUNNING = {"gateway", "capture", "cadence", "cluster", "tracking"}
"""Sections that say where and when things run, not what a turn makes: a turn goes on when they change."""


@dataclass(frozen=True)
class Step:
    """One step: its name and the function from earlier artifacts to its own."""

    name: str
    run: Callable[[dict[str, Artifact], Progress], Artifact]
    summary: Callable[[Artifact], str]


@dataclass(frozen=True)
class TurnHandle:
    """One turn's place in the lake."""

    store: ObjectStore
    flow: str
    turn_id: str

    def key(self, name: str) -> str:
        """Object key of an artifact."""
        return f"turns/{self.flow}/{self.turn_id}/{name}.json"

    def read(self, name: str) -> Artifact | None:
        """An artifact, or None when its step has not finished."""
        data = self.store.get_or_none(self.key(name))
        return None if data is None else json.loads(data)

    def write(self, name: str, artifact: Artifact) -> Artifact:
        """Store an artifact; the first writer wins, and what is stored is returned."""
        if self.store.put_if_absent(self.key(name), json.dumps(artifact, sort_keys=True).encode()):
            return artifact
        return json.loads(self.store.get(self.key(name)))


def turn_ids(store: ObjectStore, flow: str) -> list[str]:
    """All turns of a flow, oldest first."""
    return sorted({key.split("/")[2] for key in store.list(f"turns/{flow}/")})


def open_turn(store: ObjectStore, config: FlywheelConfig, *, new: bool = False) -> TurnHandle:
    """The unfinished turn of this configuration, else a new one.

    Raises:
        UsageError: an unfinished turn was started with another configuration (``new`` abandons any).
        BusyError: another process created the same new turn at this moment.
    """
    ids = turn_ids(store, config.flow)
    if ids:
        last = TurnHandle(store, config.flow, ids[-1])
        if last.read("finished") is None:
            if not new:
                begun = last.read("turn") or {}
                if begun.get("config_hash") == config_hash(config, without=_RUNNING):
                    return last
                raise UsageError(
                    f"{last.turn_id} is unfinished and was started with another configuration. "
                    "Run it again with that configuration, or pass --new to abandon it."
                )
            abandoned = {"decision": "inconclusive", "reasons": ["abandoned"], "abandoned": True}
            last.write("finished", {**abandoned, "at": utcnow().isoformat()})
    fresh = TurnHandle(store, config.flow, f"turn-{len(ids) + 1:04d}")
    begun = {
        "started": utcnow().isoformat(),
        "config_hash": config_hash(config, without=_RUNNING),
        "config": config.model_dump(mode="json"),
        "home": f"{socket.gethostname()}:{config.home_path()}",
    }
    if not store.put_if_absent(fresh.key("turn"), json.dumps(begun, sort_keys=True).encode()):
        raise BusyError(f"{fresh.turn_id} was just started by another process; wait for it to finish.")
    return fresh


def run_steps(turn: TurnHandle, steps: Sequence[Step], progress: Progress) -> dict[str, Artifact]:
    """Run what has no artifact yet, in order; returns every step's artifact by name.

    A step whose artifact says ``stop`` ends the turn early. One that says ``wait`` is not stored: the next
    run takes it up again.
    """
    artifacts: dict[str, Artifact] = {}
    for number, step in enumerate(steps, start=1):
        name = f"{number:02d}-{step.name}"
        stored = turn.read(name)
        if stored is None:
            progress.start(step.name)
            begun = time.monotonic()
            result = {**step.run(artifacts, Within(progress)), "seconds": round(time.monotonic() - begun, 2)}
            waits = "wait" in result
            stored = result if waits else turn.write(name, result)
            progress.finish(step.summary(stored))
            if waits:
                artifacts[step.name] = stored
                break
        artifacts[step.name] = stored
        if "stop" in stored:
            break
    return artifacts
