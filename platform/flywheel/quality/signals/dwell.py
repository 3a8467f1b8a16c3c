"""How long the answer was looked at, for its length."""

from __future__ import annotations

from flywheel.quality.signals.context import Context, Measured
from flywheel.quality.signals.declare import Declared
from flywheel.quality.signals.reactions import about_target

FASTEST = 200
"""Characters: a shorter answer takes about as long to take in as one of this length, so it is counted as one."""


def signal(measured: Measured, context: Context) -> float | None:  # noqa: ARG001  (one signature for all signals)
    """Milliseconds a character; None where no dwell was reported."""
    evidence = about_target(measured)
    if evidence is None or evidence.dwell_ms is None:
        return None
    return evidence.dwell_ms / max(FASTEST, len(measured.row.answer))


DWELL = Declared(
    name="dwell", version="1", cost="free", scope="row", group="did",
    scale="milliseconds a character; very low is a glance, very high an open tab",
    inputs=("origin", "evidence.dwell_ms", "answer"),
    measures="longest look at the answer, divided by its length",
    gamed="confusing answers are read for long; tabs stay open; long answers, were it not divided by length",
    function=signal,
)  # fmt: skip
