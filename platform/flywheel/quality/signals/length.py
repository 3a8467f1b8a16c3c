"""How long the target is. On its own it says nothing; other signals are compared with it."""

from __future__ import annotations

from flywheel.quality.signals.context import Context, Measured
from flywheel.quality.signals.declare import Declared


def signal(measured: Measured, context: Context) -> float | None:  # noqa: ARG001  (one signature for all signals)
    """Characters of the target, spaces at its edges not counted."""
    return float(len(measured.row.target.strip()))


LENGTH = Declared(
    name="length", version="1", cost="free", scope="row", group="form", scale="characters, neither end is better",
    inputs=("target",),
    measures="length of the target; raters and reward models prefer longer answers, so compare them with this",
    gamed="padding; that is why nothing should be kept for being long",
    function=signal,
)  # fmt: skip
