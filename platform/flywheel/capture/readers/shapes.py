"""Prompts and answers in the shapes in which programs log them. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from pydantic_core import from_json

from flywheel.capture.import_format import RefusedError

_ROLES: Final = {"developer": "system", "human": "user", "ai": "assistant", "model": "assistant", "function": "tool"}
_PROMPT_KEYS: Final = ("messages", "input", "inputs", "question", "query", "prompt", "kwargs", "args")
_ANSWER_KEYS: Final = ("output", "outputs", "answer", "response", "result", "completion", "generated_text", "text")
_TEXT_PARTS: Final = frozenset({"text", "input_text", "output_text"})


class Read(NamedTuple):
    """What a reader made of a line: fields of an ``ImportedInteraction``, and what it had to leave out."""

    fields: dict[str, Any]
    ignored: Sequence[str] = ()


class Call(NamedTuple):
    """One call of a model (or of the program around it), as it was logged."""

    prompt: Any
    answer: Any
    model: str | None = None


def conversation(whole: Call, calls: Sequence[Call], place: str) -> dict[str, Any]:
    """``messages``, ``response`` and ``model`` of a trace.

    The model's own call counts if its answer is what the trace answered: it has the whole prompt. Otherwise what
    went into the trace and came out does, because that is what people reacted to; then the last call.

    Args:
        whole: the trace's own input and output.
        calls: its model calls, oldest first.
        place: the field that is named where nothing can be read.

    Raises:
        RefusedError: there is no prompt or no answer that is text.
    """
    shown = _read(whole)
    read = [found for call in reversed(calls) if (found := _read(call))]
    if shown:
        same = [found for found in read if found["response"].strip() == shown["response"].strip()]
        return same[0] if same else {**shown, **_model(*(call.model for call in reversed(calls)))}
    if not read:
        last = calls[-1] if calls else whole
        prompt_of(last.prompt)  # whichever is there and no text says so
        answer_of(last.answer)
        raise RefusedError(place, "holds no prompt and answer that are text")
    return read[0]


def read_message(item: Any, place: str) -> dict[str, str]:
    """A chat message of any vendor with our roles and plain text.

    Raises:
        RefusedError: names the field; tool calls, pictures and sound cannot be learnt from.
    """
    if not isinstance(item, dict):
        raise RefusedError(place, "must be an object with role and content")
    if item.get("tool_calls") or item.get("function_call"):
        raise RefusedError(f"{place}.tool_calls", "tool calls cannot be imported")
    role = item.get("role") or item.get("type")
    if not isinstance(role, str):
        raise RefusedError(f"{place}.role", "must be a text")
    return {"role": _ROLES.get(role, role), "content": read_text(item.get("content"), f"{place}.content")}


def read_messages(items: Any, place: str) -> list[dict[str, str]]:
    """A list of chat messages.

    Raises:
        RefusedError: names the field.
    """
    if not isinstance(items, list) or not items:
        raise RefusedError(place, "must be a list with at least one message")
    return [read_message(item, f"{place}.{index}") for index, item in enumerate(items)]


def read_text(value: Any, place: str) -> str:
    """A text, or the texts of a list of parts.

    Raises:
        RefusedError: names the field.
    """
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        raise RefusedError(place, "must be a text or a list of text parts")
    for index, part in enumerate(value):
        if not (isinstance(part, dict) and part.get("type") in _TEXT_PARTS and isinstance(part.get("text"), str)):
            raise RefusedError(f"{place}.{index}", "only text parts can be imported")
    return "".join(part["text"] for part in value)


def prompt_of(value: Any) -> list[dict[str, str]] | None:
    """The messages in a logged input: a text, messages, a request body, or a function's arguments. None: no such.

    Raises:
        RefusedError: there are messages, but not of text alone.
    """
    value = _unpacked(value)
    if isinstance(value, str):
        return [{"role": "user", "content": value}] if value.strip() else None
    if isinstance(value, list):
        if _are_messages(value):
            return read_messages(value, "messages")
        return prompt_of(value[0]) if len(value) == 1 else None
    if not isinstance(value, dict):
        return None
    if _is_message(value):
        return [read_message(value, "message")]
    key = next((key for key in _PROMPT_KEYS if value.get(key)), next(iter(value)) if len(value) == 1 else None)
    found = prompt_of(value[key]) if key else None
    system = value.get("system") or value.get("instructions")
    return [{"role": "system", "content": system}, *found] if found and isinstance(system, str) else found


def answer_of(value: Any) -> str | None:
    """The text in a logged output; an object that is no vendor's envelope is itself the answer, as JSON.

    Raises:
        RefusedError: the answer is a tool call, or not text alone.
    """
    inner = _unpacked(value)
    if isinstance(inner, str) or inner is None:
        return inner or None
    enveloped = _opened(inner)
    if enveloped is not None:
        return answer_of(enveloped)
    if _is_message(inner):
        return read_message(inner, "answer")["content"] or None
    if isinstance(inner, list) and _are_parts(inner):
        return read_text(inner, "answer") or None
    return value if isinstance(value, str) else json.dumps(inner, ensure_ascii=False)


def utc(value: Any) -> Any:
    """A time without a zone is in UTC; whatever is no such text stays as it is."""
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return value
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def lookup(data: Any, path: str) -> str | None:
    """The text (or number) at ``a.b.c``; None where there is none."""
    for key in path.split("."):
        data = unpacked_object(data).get(key)
    return str(data) if isinstance(data, str | int) and not isinstance(data, bool) and data != "" else None


def unpacked_object(value: Any) -> dict[str, Any]:
    """An object, or the object in a JSON text; else an empty one."""
    value = _unpacked(value)
    return value if isinstance(value, dict) else {}


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects of a list, or of the list in a JSON text."""
    value = _unpacked(value)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def decoded(text: Any) -> Any:
    """The value of a JSON text; anything else stays as it is."""
    try:
        return from_json(text) if isinstance(text, str) else text
    except ValueError:
        return text


def _read(call: Call) -> dict[str, Any] | None:
    try:
        messages, response = prompt_of(call.prompt), answer_of(call.answer)
    except RefusedError:
        return None
    return {"messages": messages, "response": response, **_model(call.model)} if messages and response else None


def _model(*names: Any) -> dict[str, str]:
    return next(({"model": name} for name in names if isinstance(name, str) and name), {})


def _unpacked(value: Any) -> Any:
    """Stores keep inputs and outputs as JSON text; a bare number or word is taken for what was said."""
    return decoded(value) if isinstance(value, str) and value[:1] in {"{", "[", '"'} else value


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and "content" in value and not {"role", "type"}.isdisjoint(value)


def _are_messages(value: Sequence[Any]) -> bool:
    return bool(value) and all((isinstance(item, dict) and "role" in item) or _is_message(item) for item in value)


def _are_parts(value: Sequence[Any]) -> bool:
    return bool(value) and all(isinstance(item, dict) and item.get("type") in _TEXT_PARTS for item in value)


def _opened(value: Any) -> Any:
    """What is in a vendor's envelope: a completion, a conversation that ends with the answer, a single output."""
    if isinstance(value, list):
        return value[-1] if _are_messages(value) else value[0] if len(value) == 1 and not _are_parts(value) else None
    if not isinstance(value, Mapping) or _is_message(value):
        return None
    for key in ("choices", "messages"):
        if isinstance(value.get(key), list) and value[key]:
            return value[key][-1] if key == "messages" else value[key][0]
    if isinstance(value.get("message"), Mapping):
        return value["message"]
    return value[next(iter(value))] if len(value) == 1 and next(iter(value)) in _ANSWER_KEYS else None
