"""On which side of the failures each person stands: nobody moves from training to evaluation, or back."""

from __future__ import annotations

from collections.abc import Iterable

from flywheel.lake.tables import Lake
from flywheel.records import EvalCase
from flywheel.review.splits import Side
from flywheel.workflow.turns.steps import TurnHandle, turn_ids


def decided_sides(lake: Lake, flow: str, stored: Iterable[EvalCase], *, before: str | None = None) -> dict[str, Side]:
    """Sides of people as earlier turns, and cases that were mined between them, decided them.

    Args:
        lake: holds the turns' artifacts.
        flow: the flow.
        stored: all cases of the flow.
        before: only turns before this one; None: all.
    """
    decided: dict[str, Side] = {
        case.subject: "evaluation" for case in stored if case.origin == "failure" and case.subject is not None
    }
    for turn_id in turn_ids(lake.store, flow):
        if before is None or turn_id < before:
            earlier = TurnHandle(lake.store, flow, turn_id).read("02-split")
            decided |= (earlier or {}).get("failure_sides", {})
    return decided
