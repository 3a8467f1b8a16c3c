"""OpenAI's fine-tuning files: chat examples, and pairs of a preferred and a non-preferred answer.

An example is an answer that somebody chose to be learnt from, so it counts as liked; a pair says that its
non-preferred answer was corrected to the preferred one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flywheel.capture.import_format import RefusedError
from flywheel.capture.readers.shapes import Read, read_message, read_messages

_LEFT_OUT = ("tools", "functions", "parallel_tool_calls")


def recognises(data: Mapping[str, Any]) -> bool:
    """A conversation, or an input with a preferred output."""
    return "messages" in data or ("input" in data and "preferred_output" in data)


def read(data: dict[str, Any]) -> Read:
    """One example."""
    return _pair(data) if "preferred_output" in data else _example(data)


def _example(data: dict[str, Any]) -> Read:
    messages = read_messages(data.get("messages"), "messages")
    *prompt, last = messages
    if last["role"] != "assistant":
        raise RefusedError(f"messages.{len(prompt)}.role", "the last message must be the assistant's: it is the answer")
    unwanted = data["messages"][-1].get("weight") == 0
    feedback = [] if unwanted else [{"kind": "thumbs", "value": 1}]
    fields = {"messages": prompt, "response": last["content"], "feedback": feedback}
    return Read(fields, [key for key in _LEFT_OUT if data.get(key)])


def _pair(data: dict[str, Any]) -> Read:
    asked = data.get("input")
    if not isinstance(asked, dict):
        raise RefusedError("input", "must be an object with messages")
    fields = {
        "messages": read_messages(asked.get("messages"), "input.messages"),
        "response": _only(data, "non_preferred_output"),
        "feedback": [{"kind": "correction", "text": _only(data, "preferred_output")}],
    }
    return Read(fields, [key for key in _LEFT_OUT if asked.get(key)])


def _only(data: Mapping[str, Any], key: str) -> str:
    items = data.get(key)
    if not isinstance(items, list) or len(items) != 1:
        raise RefusedError(key, "must be a list with one message")
    return read_message(items[0], f"{key}.0")["content"]
