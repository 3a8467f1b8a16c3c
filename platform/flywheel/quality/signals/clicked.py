"""Whether anything in the answer was clicked."""

from __future__ import annotations

from flywheel.quality.signals.context import Context, Measured
from flywheel.quality.signals.declare import Declared
from flywheel.quality.signals.reactions import happened


def signal(measured: Measured, context: Context) -> float | None:  # noqa: ARG001  (one signature for all signals)
    """1: clicked, 0: other events only, None: the product reported no event (or the target is a correction)."""
    return happened(measured, "clicks")


CLICKED = Declared(
    name="click", version="1", cost="free", scope="row", group="did", scale="0 or 1, higher is better",
    inputs=("origin", "evidence.clicks"),
    measures="whether anybody clicked a link or a button of the answer",
    gamed="bait: many links, half an answer behind one; the place on the page; robots",
    function=signal,
)  # fmt: skip
