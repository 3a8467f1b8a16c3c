r"""Replaces personal data in text that is JSON, such as the arguments of a tool call, without breaking its form.

A detector that reads the raw text would miss what JSON escapes (``J\u00fcrgen``, a line end before an address)
and could eat a quote; so the text is read, each string, key and long number in it is looked at, and it is
written again. What is no JSON is treated as plain text.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Clean = Callable[[str], str]


def clean_json(text: str, clean: Clean) -> str:
    """``text`` with every part replaced by what ``clean`` makes of it; unchanged where ``clean`` changes nothing."""
    try:
        value = json.loads(text)
        cleaned = _cleaned(value, clean)
    except (ValueError, RecursionError):
        return clean(text)
    return text if cleaned == value else json.dumps(cleaned, ensure_ascii=False)


def _cleaned(value: Any, clean: Clean) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return _members(value, clean)
    if isinstance(value, list):
        return [_cleaned(item, clean) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    return _number(value, clean)


def _members(value: dict[str, Any], clean: Clean) -> dict[str, Any]:
    """Members under clean keys. Two keys that become one are told apart, so that no value is lost."""
    cleaned: dict[str, Any] = {}
    for key, item in value.items():
        name = base = clean(key)
        count = 1
        while name in cleaned:
            count += 1
            name = f"{base} ({count})"
        cleaned[name] = _cleaned(item, clean)
    return cleaned


def _number(value: float, clean: Clean) -> Any:
    """A card or phone number may be sent as a number; its surrogate stays one where it can."""
    said = repr(value)
    replaced = clean(said)
    if replaced == said:
        return value
    return int(replaced) if replaced.isdigit() and replaced[0] != "0" else replaced
