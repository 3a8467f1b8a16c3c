"""What people said in so many words: thumbs and ratings, averaged to [-1, 1]."""

from __future__ import annotations

from flywheel.quality.candidates import explicit_score
from flywheel.quality.signals.context import Context, Measured


def signal(measured: Measured, context: Context) -> float | None:  # noqa: ARG001  (one signature for all signals)
    """Mean of thumbs and rescaled ratings; None where nobody said anything."""
    return explicit_score(measured.row.evidence)
