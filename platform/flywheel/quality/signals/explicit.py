"""What people said in so many words: thumbs and ratings, averaged to [-1, 1]."""

from __future__ import annotations

from flywheel.quality.candidates import explicit_score
from flywheel.quality.signals.context import Context, Measured
from flywheel.quality.signals.declare import Declared


def signal(measured: Measured, context: Context) -> float | None:  # noqa: ARG001  (one signature for all signals)
    """Mean of thumbs and rescaled ratings; None where nobody said anything."""
    return explicit_score(measured.row.evidence)


EXPLICIT = Declared(
    name="explicit", version="1", cost="free", scope="row", group="said", scale="[-1, 1], higher is better",
    inputs=("evidence.up", "evidence.down", "evidence.rating"),
    measures="thumbs and ratings, averaged; a person's last word on an answer counts once",
    gamed="bought or scripted thumbs; asking for them (\"please rate me\"); only the delighted and the angry rate",
    function=signal, decides=("too_few_votes",),
)  # fmt: skip
