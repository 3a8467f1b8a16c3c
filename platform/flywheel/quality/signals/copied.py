"""Whether the answer was copied: people copy what they use."""

from __future__ import annotations

from flywheel.quality.signals.context import Context, Measured
from flywheel.quality.signals.declare import Declared
from flywheel.quality.signals.reactions import happened


def signal(measured: Measured, context: Context) -> float | None:  # noqa: ARG001  (one signature for all signals)
    """1: copied, 0: other events only, None: the product reported no event (or the target is a correction)."""
    return happened(measured, "copies")


COPIED = Declared(
    name="copy", version="1", cost="free", scope="row", group="did", scale="0 or 1, higher is better",
    inputs=("origin", "evidence.copies"),
    measures="whether anybody copied the answer",
    gamed="answers in code blocks invite copying; a wrong answer is copied too, before it is found wrong; scripts",
    function=signal,
)  # fmt: skip
