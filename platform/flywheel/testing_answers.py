"""What the fake engine says: answers in OpenAI's shape, whole and in pieces. Used by ``testing`` only.

It honours what a gateway must carry: ``n``, ``stop``, ``logprobs``, ``tools`` with ``tool_choice``, ``response_format``
and token counts (every answer has three).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

Body = dict[str, Any]


def question(body: Body) -> str:
    """What is asked: the prompt, or the last message."""
    return body["prompt"] if "prompt" in body else body["messages"][-1].get("content") or ""


def whole_answer(body: Body, version: str) -> Body:
    """A ``chat.completion`` or ``text_completion``: the question in capitals, or a tool call."""
    raw = "prompt" in body
    asked = question(body)
    choices = [_choice(body, index) for index in range(body.get("n") or 1)]
    usage = {"prompt_tokens": len(asked), "completion_tokens": 3, "total_tokens": len(asked) + 3}
    prefix, kind = ("cmpl", "text_completion") if raw else ("chatcmpl", "chat.completion")
    return {
        "id": f"{prefix}-{body.get('request_id', 'fake')}",
        "object": kind,
        "created": 1,
        "model": version,
        "choices": choices,
        "usage": usage,
    }


def chunks(whole: Body) -> Iterator[Body]:
    """The same answer in pieces of one character, the choices in turns, token counts last."""
    chat = whole["object"] == "chat.completion"
    kind = "chat.completion.chunk" if chat else "text_completion"
    base = {"id": whole["id"], "object": kind, "created": 1, "model": whole["model"]}
    streams = [_pieces(choice) if chat else _raw_pieces(choice) for choice in whole["choices"]]
    while streams:
        for stream in list(streams):
            piece = next(stream, None)
            if piece is None:
                streams.remove(stream)
            else:
                yield {**base, "choices": [piece]}
    yield {**base, "choices": [], "usage": whole["usage"]}


def _choice(body: Body, index: int) -> Body:
    if "prompt" in body:
        text, reason = _text(body)
        return {"index": index, "text": text, "finish_reason": reason, "logprobs": None}
    if called := _called(body):
        call = {
            "id": f"call_{index}",
            "type": "function",
            "function": {"name": called, "arguments": json.dumps({"text": question(body)})},
        }
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        return {"index": index, "message": message, "finish_reason": "tool_calls"}
    text, reason = _text(body)
    choice = {"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
    if body.get("logprobs"):
        choice["logprobs"] = {"content": [_logprob(letter, body.get("top_logprobs") or 0) for letter in text]}
    return choice


def _text(body: Body) -> tuple[str, str]:
    if (body.get("response_format") or {}).get("type", "text") != "text":
        return json.dumps({"answer": question(body)}), "stop"
    text = question(body).upper()
    stops = body.get("stop") or []
    ends = [text.find(stop) for stop in ([stops] if isinstance(stops, str) else stops)]
    return text[: min((end for end in ends if end >= 0), default=len(text))], "stop"


def _called(body: Body) -> str | None:
    """A tool is called when it must be, or when it may be and the question begins with CALL."""
    choice = body.get("tool_choice") or "auto"
    if not body.get("tools") or choice == "none":
        return None
    if isinstance(choice, dict):
        return choice["function"]["name"]
    wanted = choice == "required" or question(body).startswith("CALL")
    return body["tools"][0]["function"]["name"] if wanted else None


def _logprob(letter: str, top: int) -> Body:
    entry = {"token": letter, "logprob": -0.5, "bytes": list(letter.encode())}
    return {**entry, "top_logprobs": [entry] * top}


def _pieces(choice: Body) -> Iterator[Body]:
    index, message = choice["index"], choice["message"]

    def piece(delta: Body, reason: str | None = None) -> Body:
        return {"index": index, "delta": delta, "finish_reason": reason}

    yield piece({"role": "assistant", "content": ""})
    logprobs = (choice.get("logprobs") or {}).get("content")
    for place, letter in enumerate(message.get("content") or ""):
        made = piece({"content": letter})
        yield {**made, "logprobs": {"content": [logprobs[place]]}} if logprobs else made
    for number, call in enumerate(message.get("tool_calls") or []):
        head = {"name": call["function"]["name"], "arguments": ""}
        yield piece({"tool_calls": [{"index": number, "id": call["id"], "type": "function", "function": head}]})
        for letter in call["function"]["arguments"]:
            yield piece({"tool_calls": [{"index": number, "function": {"arguments": letter}}]})
    yield piece({}, choice["finish_reason"])


def _raw_pieces(choice: Body) -> Iterator[Body]:
    for letter in choice["text"]:
        yield {"index": choice["index"], "text": letter, "finish_reason": None, "logprobs": None}
    yield {"index": choice["index"], "text": "", "finish_reason": choice["finish_reason"], "logprobs": None}
