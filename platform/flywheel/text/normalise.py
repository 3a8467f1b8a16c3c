"""One normal form for comparing texts that a reader would call the same."""

from __future__ import annotations

import re
import unicodedata

_SPACE = re.compile(r"\s+")
# Sentence punctuation, quotes and brackets only: a sign, a percent or a currency symbol at an edge
# changes what an answer means ("-5" is not "5").
_EDGE = ".,;:!?\u2026\u00bf\u00a1'\"`\u00b4\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb\u2039\u203a()[]{}*_ "
_NUMBER_POINT = re.compile(r"[.,]\d")


def normalise(text: str) -> str:
    """NFKC, casefold, single spaces, no punctuation at the edges.

    Idempotent: ``normalise(normalise(t)) == normalise(t)``. A leading decimal point (``.5``) stays.
    """
    while True:
        folded = _once(text)
        if folded == text:
            return folded
        text = folded  # stripping an edge or folding a letter can make another step possible


def _once(text: str) -> str:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    folded = _SPACE.sub(" ", folded).rstrip(_EDGE)
    stripped = folded.lstrip(_EDGE)
    start = len(folded) - len(stripped)
    if start and _NUMBER_POINT.match(folded, start - 1):
        return folded[start - 1 :]
    return stripped
