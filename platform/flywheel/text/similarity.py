"""How far one text was edited into another."""

from __future__ import annotations

from rapidfuzz.distance import Levenshtein


def edit_similarity(a: str, b: str) -> float:
    """One minus the Levenshtein distance over the longer length: 1.0 for equal texts, 0.0 for nothing in common."""
    return Levenshtein.normalized_similarity(a, b)
