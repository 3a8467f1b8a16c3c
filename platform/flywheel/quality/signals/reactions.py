"""Which reactions are about the text that would be trained on. Shared by the signals of what people did."""

from __future__ import annotations

from flywheel.quality.rows import Evidence
from flywheel.quality.signals.context import Measured


def about_target(measured: Measured) -> Evidence | None:
    """Reactions to the target; None for a correction, whose reactions were to the answer that it replaces."""
    return None if measured.row.origin == "correction" else measured.row.evidence


def watched(evidence: Evidence) -> bool:
    """Whether the product reported anything people did: without that, no copy is not known to be none."""
    counts = (evidence.copies, evidence.clicks, evidence.completions, evidence.abandons, evidence.reprompts)
    return any(counts) or evidence.dwell_ms is not None


def happened(measured: Measured, name: str) -> float | None:
    """1 where an event of ``name`` (a field of ``Evidence``) was seen, 0 where only others were, None without any.

    Further events of a kind add nothing: pressing a button ten times is no tenfold praise.
    """
    evidence = about_target(measured)
    if evidence is None or not watched(evidence):
        return None
    return float(getattr(evidence, name) > 0)
