"""Comparisons: was this answer preferred to another one that was shown beside it?"""

from __future__ import annotations

from flywheel.quality.signals.context import Context, Measured
from flywheel.quality.signals.declare import Declared
from flywheel.quality.signals.reactions import about_target


def signal(measured: Measured, context: Context) -> float | None:  # noqa: ARG001  (one signature for all signals)
    """(won - lost) / all comparisons, ties in the denominator; None where nobody compared."""
    evidence = about_target(measured)
    if evidence is None:
        return None
    compared = evidence.won + evidence.lost + evidence.tied
    return (evidence.won - evidence.lost) / compared if compared else None


COMPARISON = Declared(
    name="comparison", version="1", cost="free", scope="row", group="said", scale="[-1, 1], higher is better",
    inputs=("origin", "evidence.won", "evidence.lost", "evidence.tied"),
    measures="share of side-by-side comparisons won minus the share lost",
    gamed="the first place and the longer answer win more often; a weak opponent; accounts that vote in concert",
    function=signal,
)  # fmt: skip
