"""What people did without saying anything, squashed to [0, 1]; 0.5 is neutral.

Dwell counts relative to the usual reading time of an answer of that length: a long answer is looked at for
longer, which says nothing about its quality. Staying far longer than usual is not read as praise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from flywheel.quality.rows import Candidate, Evidence
from flywheel.quality.signals.context import Context, Measured
from flywheel.quality.signals.declare import Declared

WEIGHTS = {"copies": 1.5, "completions": 1.5, "clicks": 0.5, "abandons": -1.5, "reprompts": -2.0}
"""Log-odds of one event of a kind; further events of that kind add nothing."""
DWELL_WEIGHT = 0.5


def signal(measured: Measured, context: Context) -> float | None:
    """For liked answers; None for corrections (the reaction was to the answer that was wrong) and silence."""
    row = measured.row
    return None if row.origin == "correction" else engagement(row.evidence, len(row.answer), context.dwell_per_char_ms)


def engagement(evidence: Evidence, chars: int, usual_ms: float | None) -> float | None:
    """Logistic sum of the events; None where there are none."""
    seen = {name: weight for name, weight in WEIGHTS.items() if getattr(evidence, name)}
    logit = sum(seen.values())
    dwell = per_char(evidence, chars)
    if dwell is not None and usual_ms:
        logit += DWELL_WEIGHT * max(-1.0, min(1.0, math.log(max(dwell, 1e-3) / usual_ms)))
    elif not seen:
        return None
    return 1 / (1 + math.exp(-logit))


def per_char(evidence: Evidence, chars: int) -> float | None:
    """Dwell in milliseconds for each character of the answer."""
    return None if evidence.dwell_ms is None else evidence.dwell_ms / max(1, chars)


def usual_dwell(rows: Sequence[Candidate]) -> float | None:
    """Median dwell a character over all rows, or None without dwell events."""
    values = sorted(value for row in rows if (value := per_char(row.evidence, len(row.answer))) is not None)
    return values[len(values) // 2] if values else None


ENGAGEMENT = Declared(
    name="engagement", version="1", cost="free", scope="rows", group="did", scale="[0, 1], 0.5 is neutral",
    inputs=("origin", "answer", "evidence.copies", "evidence.completions", "evidence.clicks", "evidence.abandons",
            "evidence.reprompts", "evidence.dwell_ms", "dwell_per_char_ms"),
    measures="everything people did with the answer, as one logistic sum",
    gamed="whatever games copies, clicks and dwell; no reaction is no praise",
    function=signal, decides=("too_few_votes",),
)  # fmt: skip
