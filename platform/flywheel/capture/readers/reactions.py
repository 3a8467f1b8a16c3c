"""Scores and assessments -> reactions, by their names, because a number alone does not say what it means. Pure."""

from __future__ import annotations

import json
import re
from typing import Any, Final

_FILLERS: Final = frozenset(
    {"user", "human", "customer", "answer", "response", "output", "score", "is", "the", "up", "end", "value"}
)
_OPINION: Final = frozenset(
    {"thumb", "thumbs", "feedback", "like", "liked", "helpful", "correct", "correctness", "good"}
)
_AGAINST: Final = frozenset({"down", "dislike", "disliked", "bad"})
_RATING: Final = frozenset({"rating", "stars", "star", "csat"})
_CORRECTION: Final = frozenset({"correction", "corrected", "expected", "ideal", "reference", "ground", "truth"})
_YES: Final = frozenset({"true", "yes", "up", "positive", "like", "good", "correct"})
_NO: Final = frozenset({"false", "no", "down", "negative", "dislike", "bad", "incorrect"})


def reaction(name: Any, value: Any) -> dict[str, Any] | None:
    """The reaction that a score is; None for one that is none of ours, such as a similarity.

    Args:
        name: ``user-feedback``, ``thumbs_up``, ``rating``, ``expected_response``; case and fillers do not count.
        value: true/false, 0/1, -1/1 or a word of approval (thumbs), 1 to 5 (rating), a text or object (correction).
    """
    words = _words(name)
    if not words:
        return None
    if words <= _RATING | _OPINION and words & _RATING:
        return {"kind": "rating", "value": value} if _is_number(value) and 1 <= value <= 5 else None
    if words <= _OPINION | _AGAINST and (sign := _sign(value)):
        return {"kind": "thumbs", "value": -sign if words & _AGAINST else sign}
    if words <= _CORRECTION and value not in (None, "", [], {}) and isinstance(value, str | dict | list):
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return {"kind": "correction", "text": text}
    return None


def comment(text: Any) -> dict[str, Any] | None:
    """What somebody wrote beside a score."""
    return {"kind": "comment", "text": text} if isinstance(text, str) and text.strip() else None


def _words(name: Any) -> set[str]:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name) if isinstance(name, str) else ""
    return set(re.findall(r"[a-z]+", spaced.lower())) - _FILLERS


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _sign(value: Any) -> int:
    if isinstance(value, str):
        word = value.strip().lower()
        return 1 if word in _YES else -1 if word in _NO else 0
    if isinstance(value, bool | int | float) and value in (-1, 0, 1):
        return 1 if value > 0 else -1
    return 0
