"""What an engine answered, read from a whole answer or put together from chunks: texts, tool calls, reasons. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from flywheel.gateway.problems import ApiProblem
from flywheel.records import ToolCall

MAX_INDEX = 128
"""A choice or call with a higher index is the engine's mistake and must not make this process hold a long list."""


def read_whole(answer: dict[str, Any]) -> tuple[list[str], list[list[ToolCall]], str | None]:
    """Texts and tool calls by choice, and the first choice's finish reason.

    Raises:
        ApiProblem: 502: the engine's answer has another form.
    """
    try:
        choices = answer["choices"]
        texts = [_text(choice) for choice in choices]
        calls = [_calls((choice.get("message") or {}).get("tool_calls")) for choice in choices]
        return texts, calls if any(calls) else [], choices[0].get("finish_reason")
    except (LookupError, TypeError, AttributeError, ValidationError) as error:
        raise garbled(f"no choices of the known form ({type(error).__name__})") from error


def garbled(what: str) -> ApiProblem:
    """502: an engine answered something that is no answer."""
    return ApiProblem(502, f"the engine's answer cannot be read: {what}", "server_error", code="engine_error")


@dataclass
class _Call:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


@dataclass
class _Piece:
    texts: list[str] = field(default_factory=list)
    calls: list[_Call] = field(default_factory=list)


@dataclass
class Collected:
    """The choices of a stream as their pieces arrive, by index."""

    pieces: list[_Piece] = field(default_factory=list)
    finish_reason: str | None = None

    def add(self, choices: list[dict[str, Any]]) -> bool:
        """Take the choices of one chunk. True when they brought text or a call.

        Raises:
            ApiProblem: 502: the chunk has another form.
        """
        try:
            told = False
            for choice in choices:
                told = self._add(choice) or told
        except (LookupError, TypeError, AttributeError) as error:
            raise garbled(f"a chunk of another form ({type(error).__name__})") from error
        return told

    def texts(self) -> list[str]:
        """The text of each choice so far."""
        return ["".join(piece.texts) for piece in self.pieces]

    def calls(self) -> list[list[ToolCall]]:
        """The tool calls of each choice so far; empty when no choice calls any."""
        calls = [
            [
                ToolCall.model_validate(
                    {"id": call.id, "function": {"name": call.name, "arguments": "".join(call.arguments)}}
                )
                for call in piece.calls
            ]
            for piece in self.pieces
        ]
        return calls if any(calls) else []

    def _add(self, choice: dict[str, Any]) -> bool:
        index = choice.get("index") or 0
        piece = _at(self.pieces, index, _Piece)
        if index == 0:
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
        delta = choice.get("delta")
        if delta is None:
            text, calls = choice.get("text"), None
        else:
            text, calls = delta.get("content"), delta.get("tool_calls")
        if text:
            if not isinstance(text, str):
                raise TypeError("text")
            piece.texts.append(text)
        for part in calls or ():
            _extend(_at(piece.calls, part.get("index") or 0, _Call), part)
        return bool(text or calls)


def _extend(call: _Call, part: dict[str, Any]) -> None:
    function = part.get("function") or {}
    call.id = call.id or part.get("id") or ""
    call.name = call.name or function.get("name") or ""
    if arguments := function.get("arguments"):
        call.arguments.append(arguments + "")  # a piece that is not text is found here, not when the row is made


def _at(items: list[Any], index: int, make: type) -> Any:
    if not 0 <= index < MAX_INDEX:
        raise LookupError(f"index {index}")
    while len(items) <= index:
        items.append(make())
    return items[index]


def _text(choice: dict[str, Any]) -> str:
    message = choice.get("message")
    text = choice["text"] if message is None else message.get("content")
    if text is None or isinstance(text, str):
        return text or ""
    raise TypeError("content is not text")


def _calls(calls: list[dict[str, Any]] | None) -> list[ToolCall]:
    return [
        ToolCall.model_validate(
            {
                "id": call["id"],
                "function": {"name": call["function"]["name"], "arguments": call["function"].get("arguments") or ""},
            }
        )
        for call in calls or ()
    ]
