"""How much of the target says again what it said before: degenerate loops, boilerplate, padding.

The larger of two shares (after Rae et al. 2021, "Scaling Language Models: Gopher", table A1): words that lie in a
repeated sequence of ``GRAM`` words, and non-empty lines that occurred before.
"""

from __future__ import annotations

from collections import Counter

from flywheel.quality.signals.context import Context, Measured
from flywheel.quality.signals.declare import Declared
from flywheel.text.words import words

GRAM = 4
FEWEST = 8
"""Words: fewer cannot repeat a sequence of four in a way that means anything."""


def signal(measured: Measured, context: Context) -> float | None:  # noqa: ARG001  (one signature for all signals)
    """In [0, 1]; None for very short targets."""
    said = words(measured.row.target)
    if len(said) < FEWEST:
        return None
    lines = [line.strip() for line in measured.row.target.splitlines() if line.strip()]
    again = (len(lines) - len(set(lines))) / len(lines) if lines else 0.0
    return max(again, repeated_words(said))


def repeated_words(said: list[str]) -> float:
    """Share of the words that lie in a sequence of ``GRAM`` words that occurs more than once."""
    grams = [tuple(said[place : place + GRAM]) for place in range(len(said) - GRAM + 1)]
    counts = Counter(grams)
    inside: set[int] = set()
    for place, gram in enumerate(grams):
        if counts[gram] > 1:
            inside.update(range(place, place + GRAM))
    return len(inside) / len(said)


REPETITION = Declared(
    name="repetition", version="1", cost="free", scope="row", group="form", scale="[0, 1], lower is better",
    inputs=("target",),
    measures="share of words in repeated sequences of four, or of repeated lines, whichever is larger",
    gamed="paraphrased padding repeats no words; tables, code and lists repeat rightly",
    function=signal,
)  # fmt: skip
