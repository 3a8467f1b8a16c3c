"""Changes of which ranker serves, each safe to run twice or at once; rows of ``decisions`` follow from the states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from flywheel.errors import BusyError
from flywheel.lake.tables import Lake
from flywheel.records import Decision
from flywheel.rollout import ranker_routing as truth
from flywheel.rollout.ranker_routing import RankerRouting

Step = Callable[[RankerRouting | None], RankerRouting | None]
_ATTEMPTS: Final = 5


def apply(lake: Lake, flow: str, step: Step) -> tuple[RankerRouting | None, bool]:
    """Publish what ``step`` makes of the state in force (None: it is as wanted); the state then, and if it changed.

    A lost race is decided again only while the same ranker is live: a promotion must not undo a rollback that
    overtook it.

    Raises:
        BusyError: the live ranker changed meanwhile, or others changed the state again and again.
    """
    now = truth.current(lake.store, flow)
    for _ in range(_ATTEMPTS):
        wanted = step(now)
        if wanted is None:
            project(lake, flow)
            return now, False
        try:
            truth.publish(lake.store, wanted)
        except BusyError:
            seen, now = now, truth.current(lake.store, flow)
            if _live(seen) != _live(now):
                raise
            continue
        project(lake, flow)
        return wanted, True
    raise BusyError(f"the rankers of '{flow}' kept being changed by others; look at them and repeat the command")


def project(lake: Lake, flow: str) -> None:
    """Write the decisions that are missing, in order, each once: a kill in between is made good by the next call."""
    now, app = truth.current(lake.store, flow), f"ranking/{flow}"
    for n in range((lake.last_committed("decisions", app) or 0) + 1, (now.n if now else 0) + 1):
        lake.append("decisions", [_row(truth.read(lake.store, flow, n))], app=app, version=n)


def _row(state: RankerRouting) -> Decision:
    return Decision(
        decision_id=state.decision_id,
        flow=state.flow,
        ts=state.ts,
        action=state.action,
        verdict="promote" if state.action == "ranker_promote" else None,
        candidate=state.concerns,
        live=_live(state),
        actor=state.actor,
        reasons=state.reasons,
        text=state.reason,
    )


def _live(state: RankerRouting | None) -> str | None:
    return state.live.version if state and state.live else None
