"""How much a correction changes the answer: share of changed fields for JSON, else one minus edit similarity."""

from __future__ import annotations

from flywheel.quality.signals.context import Context, Measured
from flywheel.quality.signals.declare import Declared
from flywheel.text.answers import parse_object
from flywheel.text.similarity import edit_similarity


def signal(measured: Measured, context: Context) -> float | None:  # noqa: ARG001  (one signature for all signals)
    """In [0, 1]; None for liked answers, which nobody rewrote."""
    row = measured.row
    if row.origin != "correction":
        return None
    before, after = parse_object(row.answer), parse_object(row.target)
    if before is not None and after is not None:
        names = before.keys() | after.keys()
        changed = sum(name not in before or name not in after or before[name] != after[name] for name in names)
        return changed / max(1, len(names))
    return 1.0 - edit_similarity(row.answer, row.target)


DISTANCE = Declared(
    name="correction_distance", version="1", cost="free", scope="row", group="said",
    scale="[0, 1]; near 0 a typo was mended, near 1 something else was written",
    inputs=("origin", "answer", "target"),
    measures="how much of the served answer a correction changes",
    gamed="small hostile edits (one digit) look like careful ones; pasted text is far from everything",
    function=signal, decides=("correction_too_far",),
)  # fmt: skip
