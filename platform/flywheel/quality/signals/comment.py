"""The tone of what people wrote about an answer.

VADER (Hutto and Gilbert, ICWSM 2014): a lexicon of rated words with rules for negation, degree and emphasis. It
reads feelings, not facts: "the total should be 40" is neutral. English only; other languages are not measured.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from flywheel.quality.signals.context import Context, Measured
from flywheel.quality.signals.declare import Declared
from flywheel.quality.signals.reactions import about_target
from flywheel.text.language import language_of

LONGEST = 2_000
"""Characters of a comment that are read: a pasted log is no opinion."""


def signal(measured: Measured, context: Context) -> float | None:  # noqa: ARG001  (one signature for all signals)
    """Mean compound score of the comments, in [-1, 1]; None without a comment in English."""
    evidence = about_target(measured)
    said = [text[:LONGEST] for text in evidence.comments] if evidence is not None else []
    scores = [_analyser().polarity_scores(text)["compound"] for text in said if language_of(text) in {None, "en"}]
    return sum(scores) / len(scores) if scores else None


@cache
def _analyser() -> Any:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()


COMMENT = Declared(
    name="comment_sentiment", version="1", cost="free", scope="row", group="said",
    scale="[-1, 1], higher is better", inputs=("origin", "evidence.comments"),
    measures="mean tone of the comments (VADER's lexicon and negation rules; English)",
    gamed="irony and politeness (\"great, wrong again\"); a friendly wrong answer earns thanks; pasted praise",
    function=signal,
)  # fmt: skip
