"""What live traffic says about a turn's candidate, where the gate asks for it."""

from __future__ import annotations

import time
from typing import Final

from flywheel.rollout.live.result import LiveVerdict
from flywheel.workflow.turns.context import Context
from flywheel.workflow.turns.steps import Artifact

POLL_S: Final = 2.0


def awaited(context: Context, *, candidate: str, live: str, until: float) -> LiveVerdict | None:
    """The verdict, waited for until it is decided or ``until`` (monotonic seconds); None where nobody asks for it."""
    if not context.config.rollout.gate.require_live_quality:
        return None
    from flywheel.workflow.live.watching import open_watch, verdict_on

    watch = open_watch(context.lake, context.config)
    found = verdict_on(watch, candidate=candidate, live=live)
    while found is not None and found.state == "undecided" and time.monotonic() < until:
        time.sleep(POLL_S)
        found = verdict_on(watch, candidate=candidate, live=live)
    return found


def waiting(found: LiveVerdict) -> str:
    """What people read while the turn stays open."""
    lacks = [reason.text for reason in found.reasons if reason.outcome == "missing"]
    return (
        f"{found.units:,} units of live traffic (planned: {found.planned_units:,}) do not decide yet; the candidate "
        f"stays in the shadow. {' '.join(lacks[:2])} Run `flywheel turn` again when there was more traffic."
    )


def stored(artifact: Artifact) -> LiveVerdict | None:
    """The verdict that a turn's shadow step kept."""
    found = artifact.get("live_quality")
    return LiveVerdict.model_validate(found) if found else None
