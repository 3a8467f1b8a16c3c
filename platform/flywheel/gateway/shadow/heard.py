"""What a candidate said, read from a stream that is not trusted: bounded in bytes, events and time.

Whatever comes (no JSON, wrong types, no end, 100 MB) ends as an answer or as an error of a known kind.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from flywheel.gateway.problems import ApiProblem, from_engine
from flywheel.gateway.shadow.limits import Limits
from flywheel.records import FunctionCall, ShadowErrorKind, ToolCall

FINISHES = frozenset({"stop", "length", "tool_calls", "function_call", "content_filter", "abort"})
WIRE_BYTES_PER_ANSWER_BYTE = 16
"""An event around one token of text: a stream is this much longer than what it says, and seldom more."""
EVENT_COST = 64
"""Bytes that an event counts at least, so that an endless stream of nothing ends as well."""
BREATHE_EVERY = 64
"""Blocks after which others get their turn: a stream that always has more ready would keep the event loop."""
MAX_ERROR = 300
MAX_TOOL_CALLS = 128


class _Unusable(Exception):  # noqa: N818  (never leaves this file)
    def __init__(self, kind: ShadowErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind: ShadowErrorKind = kind


@dataclass
class Heard:
    """One answer so far; with ``error_kind`` it is none."""

    started: float = field(default_factory=time.perf_counter)
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    ttft_ms: float | None = None
    latency_ms: float | None = None
    error_kind: ShadowErrorKind | None = None
    error: str | None = None
    _parts: list[str] = field(default_factory=list)
    _calls: dict[int, dict[str, str]] = field(default_factory=dict)
    _size: int = 0
    _done: bool = False

    @property
    def answer(self) -> str | None:
        """The whole text; None unless it came to its end. Lone surrogates, which no store takes, are replaced."""
        return None if self.error_kind else _storable("".join(self._parts))

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The tools it would have called. Nothing ever calls them."""
        return [_tool_call(place, call) for place, call in sorted(self._calls.items())]

    def fail(self, kind: ShadowErrorKind, message: str) -> None:
        """There is no answer."""
        self.error_kind, self.error = kind, _storable(message[:MAX_ERROR])
        self._parts.clear()
        self._calls.clear()

    def take(self, chunk: Any, most: int) -> None:
        """One event of the stream; ``most`` bytes of text at the most."""
        if not isinstance(chunk, dict):
            raise _Unusable("malformed", f"an event is {type(chunk).__name__}, not an object")
        if "error" in chunk:
            raise from_engine(chunk if isinstance(chunk["error"], dict) else {})
        self._usage(chunk.get("usage"))
        choices = chunk.get("choices")
        if choices is not None and not isinstance(choices, list):
            raise _Unusable("malformed", "'choices' is no list")
        for choice in choices or []:
            self._choice(choice, most)

    def ended(self) -> None:
        """The stream is over.

        Raises:
            _Unusable: before it said how it finished.
        """
        if self.finish_reason is None:
            raise _Unusable("malformed", "the stream ended before the answer did")

    def _choice(self, choice: Any, most: int) -> None:
        delta = _delta(choice)
        if choice.get("index", 0) != 0:
            return
        text, calls, finish = delta.get("content"), delta.get("tool_calls"), choice.get("finish_reason")
        if text:
            self._parts.append(self._counted(text, most))
        for call in calls if isinstance(calls, list) else []:
            self._call(call, most)
        if text or calls:
            self.ttft_ms = self.ttft_ms or self.elapsed_ms()
        if finish:
            self.finish_reason = finish if isinstance(finish, str) and finish in FINISHES else "other"

    def _call(self, call: Any, most: int) -> None:
        function = call.get("function") if isinstance(call, dict) else None
        place = call.get("index", len(self._calls)) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(place, int) or isinstance(place, bool):
            raise _Unusable("malformed", "a tool call is no function call")
        if place not in self._calls and len(self._calls) >= MAX_TOOL_CALLS:
            raise _Unusable("too_large", f"more than {MAX_TOOL_CALLS} tool calls")
        known = self._calls.setdefault(place, {"id": "", "name": "", "arguments": ""})
        for name, said in (("id", call), ("name", function), ("arguments", function)):
            known[name] += self._counted(said.get(name) or "", most)

    def _counted(self, text: Any, most: int) -> str:
        if not isinstance(text, str):
            raise _Unusable("malformed", f"text is {type(text).__name__}")
        self._size += len(text) if text.isascii() else len(text.encode(errors="replace"))
        if self._size > most:
            raise _Unusable("too_large", f"the answer is longer than {most} bytes")
        return text

    def _usage(self, usage: Any) -> None:
        if isinstance(usage, dict):
            self.prompt_tokens = _count(usage.get("prompt_tokens"), self.prompt_tokens)
            self.completion_tokens = _count(usage.get("completion_tokens"), self.completion_tokens)

    def elapsed_ms(self) -> float:
        """Milliseconds since it was sent."""
        return (time.perf_counter() - self.started) * 1e3


async def listen(blocks: AsyncIterator[str], limits: Limits) -> Heard:
    """Read an answer to its end, to a limit, or to its first mistake; then the stream is closed. Never raises for it.

    Args:
        blocks: server-sent events; one block may hold several.
        limits: ``timeout_s`` of the whole answer, ``answer_bytes`` of its text.
    """
    heard = Heard()
    try:
        async with asyncio.timeout(limits.timeout_s), contextlib.AsyncExitStack() as stack:
            if close := getattr(blocks, "aclose", None):
                stack.push_async_callback(close)
            await _read(blocks, heard, limits)
    except TimeoutError:
        heard.fail("timeout", f"no whole answer within {limits.timeout_s:g} s")
    except _Unusable as problem:
        heard.fail(problem.kind, str(problem))
    except ApiProblem as problem:
        heard.fail(_kind(problem), problem.message)
    except Exception as error:  # noqa: BLE001  (whatever a candidate's engine raises is that candidate's error)
        heard.fail("engine_error", f"{type(error).__name__}: {error}")
    heard.latency_ms = heard.elapsed_ms()
    return heard


async def _read(blocks: AsyncIterator[str], heard: Heard, limits: Limits) -> None:
    read, count, wire = 0, 0, limits.answer_bytes * WIRE_BYTES_PER_ANSWER_BYTE
    async for block in blocks:
        if not isinstance(block, str):
            raise _Unusable("malformed", f"a block is {type(block).__name__}")
        read += max(EVENT_COST, len(block))
        if read > wire:
            raise _Unusable("too_large", f"the stream is longer than {wire} bytes")
        if _take_block(block, heard, limits.answer_bytes):
            break
        count += 1
        if count % BREATHE_EVERY == 0:
            await asyncio.sleep(0)  # also lets the timeout in
    heard.ended()


def _take_block(block: str, heard: Heard, most: int) -> bool:
    """Read the events of a block; True after ``[DONE]``."""
    for line in block.split("\n"):
        if not line.startswith("data:"):
            if line.strip() and not line.startswith((":", "event:", "id:", "retry:")):
                raise _Unusable("malformed", "a line is no server-sent event")
            continue
        text = line[5:].strip()
        if text == "[DONE]":
            return True
        try:
            chunk = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _Unusable("malformed", f"an event is not JSON ({type(error).__name__})") from error
        heard.take(chunk, most)
    return False


def _kind(problem: ApiProblem) -> ShadowErrorKind:
    if problem.code == "engine_unavailable":
        return "unavailable"
    if problem.status == 504:
        return "timeout"
    return "refused" if 400 <= problem.status < 500 else "engine_error"


def _delta(choice: Any) -> dict[str, Any]:
    """What a choice of a chat's or a completion's chunk adds."""
    if not isinstance(choice, dict):
        raise _Unusable("malformed", "a choice is no object")
    delta = {"content": choice["text"]} if "text" in choice else choice.get("delta")
    if not isinstance(delta, dict):
        raise _Unusable("malformed", "a choice has neither 'delta' nor 'text'")
    return delta


def _tool_call(place: int, call: dict[str, str]) -> ToolCall:
    function = FunctionCall(name=_storable(call["name"]), arguments=_storable(call["arguments"]))
    return ToolCall(id=_storable(call["id"]) or f"call-{place}", function=function)


def _count(value: Any, known: int | None) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31
    return value if whole else known


def _storable(text: str) -> str:
    return text.encode(errors="replace").decode()
