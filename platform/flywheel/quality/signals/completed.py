"""Whether the answer was read to its end, or the task behind it done."""

from __future__ import annotations

from flywheel.quality.signals.context import Context, Measured
from flywheel.quality.signals.declare import Declared
from flywheel.quality.signals.reactions import about_target, happened


def signal(measured: Measured, context: Context) -> float | None:  # noqa: ARG001  (one signature for all signals)
    """Reported share read or used, in [0, 1]; else 1 for a completion, 0 for other events only."""
    evidence = about_target(measured)
    if evidence is not None and evidence.completed_share is not None:
        return max(0.0, min(1.0, evidence.completed_share))
    return happened(measured, "completions")


COMPLETED = Declared(
    name="completion", version="1", cost="free", scope="row", group="did", scale="[0, 1], higher is better",
    inputs=("origin", "evidence.completions", "evidence.completed_share"),
    measures="share of the answer that was read or used, as the product reports it",
    gamed="short answers are always completed; scrolling past counts as reading; autoplay",
    function=signal,
)  # fmt: skip
