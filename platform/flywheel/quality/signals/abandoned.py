"""Whether people left in the middle of the answer."""

from __future__ import annotations

from flywheel.quality.signals.context import Context, Measured
from flywheel.quality.signals.declare import Declared
from flywheel.quality.signals.reactions import happened


def signal(measured: Measured, context: Context) -> float | None:  # noqa: ARG001  (one signature for all signals)
    """1: abandoned, 0: other events only, None: the product reported no event (or the target is a correction)."""
    return happened(measured, "abandons")


ABANDONED = Declared(
    name="abandonment", version="1", cost="free", scope="row", group="did", scale="0 or 1, lower is better",
    inputs=("origin", "evidence.abandons"),
    measures="whether anybody left before the answer was complete",
    gamed="people also leave because they have what they need; a slow engine; rivals who open and close pages",
    function=signal,
)  # fmt: skip
