"""When two answers say the same."""

from __future__ import annotations

import json
from typing import Any, cast

from flywheel.text.normalise import normalise


def parse_object(text: str) -> dict[str, Any] | None:
    """The JSON object that ``text`` is, or None."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def answer_key(text: str) -> str:
    """Identity of an answer: JSON by value (key order and spacing do not count), else normalised text."""
    value = parse_object(text)
    return json.dumps(value, sort_keys=True) if value is not None else normalise(text)


def same_answer(left: str, right: str) -> bool:
    """Whether two answers say the same."""
    return answer_key(left) == answer_key(right)
