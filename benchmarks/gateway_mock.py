"""The deterministic model of the gateway benchmark: as an HTTP server, as a Serve app, and inside ray.serve.llm.

A request says what it wants: ``max_tokens`` chunks of five bytes, the first after ``seed`` milliseconds. No token
is computed, so what is measured is everything around the model.

    python benchmarks/gateway_mock.py PORT      # OpenAI's chat completions on 127.0.0.1:PORT
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

MODEL = "mock"
TOKEN = "word "


def completion(body: dict[str, Any]) -> dict[str, Any]:
    """The whole ``chat.completion`` for a request body."""
    tokens = int(body.get("max_tokens") or 16)
    return {
        "id": f"chatcmpl-{body.get('request_id', 'mock')}",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": TOKEN * tokens}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 20, "completion_tokens": tokens, "total_tokens": 20 + tokens},
    }


def chunks(body: dict[str, Any]) -> list[str]:
    """The same answer as server-sent events, one a token, as vLLM sends it."""
    base = {"id": f"chatcmpl-{body.get('request_id', 'mock')}", "object": "chat.completion.chunk", "created": 1}
    tokens = int(body.get("max_tokens") or 16)
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, *({"content": TOKEN} for _ in range(tokens))]
    events = [
        {**base, "model": MODEL, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas
    ]
    events[-1]["choices"][0]["finish_reason"] = "stop"
    usage = {"prompt_tokens": 20, "completion_tokens": tokens, "total_tokens": 20 + tokens}
    if (body.get("stream_options") or {}).get("include_usage"):
        events.append({**base, "model": MODEL, "choices": [], "usage": usage})
    return [*(f"data: {json.dumps(event)}\n\n" for event in events), "data: [DONE]\n\n"]


def delay_s(body: dict[str, Any]) -> float:
    """How long the first token takes."""
    return int(body.get("seed") or 0) / 1e3


class MockEngine:
    """What ``inference.server.EngineServer`` answers, without ray.serve.llm in between."""

    async def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        """A whole answer."""
        await asyncio.sleep(delay_s(body))
        return completion(body)

    async def stream(self, body: dict[str, Any]) -> AsyncIterator[str]:
        """Events."""
        await asyncio.sleep(delay_s(body))
        for block in chunks(body):
            yield block
            await asyncio.sleep(0)

    async def ping(self) -> str:
        """The version."""
        return MODEL


async def llm_answers(request: Any) -> AsyncIterator[Any]:
    """What an engine of ``ray.serve.llm`` yields for a ``ChatCompletionRequest``."""
    from ray.serve.llm.openai_api_models import ChatCompletionResponse

    body = request.model_dump(include={"max_tokens", "seed", "request_id", "stream_options"})
    await asyncio.sleep(delay_s(body))
    if not request.stream:
        yield ChatCompletionResponse(**completion(body))
        return
    for block in chunks(body):
        yield block
        await asyncio.sleep(0)


def llm_engine() -> type:
    """An engine class for ``ray.serve.llm`` (imported here: it pulls vLLM's request types in)."""
    from ray.llm._internal.serve.core.engine.protocol import LLMEngine

    class Mock(LLMEngine):
        def __init__(self, llm_config: Any) -> None:
            self.llm_config = llm_config

        async def start(self) -> None:
            """Nothing to load."""

        async def check_health(self) -> None:
            """Always well."""

        def routing_stats(self) -> dict[str, Any]:
            return {}

        async def resolve_lora(self, lora_model: Any) -> None:
            """No adapters."""

        def chat(self, request: Any, raw_request_info: Any = None) -> AsyncIterator[Any]:
            del raw_request_info
            return llm_answers(request)

    Mock.__abstractmethods__ = frozenset()  # embeddings and the like are not asked for here
    return Mock


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """ASGI: any POST is a chat completion, any GET says that it lives."""
    if scope["type"] != "http":
        return
    if scope["method"] != "POST":
        await _respond(send, b'{"object":"list","data":[{"id":"mock","object":"model"}]}')
        return
    raw, more = b"", True
    while more:
        message = await receive()
        raw, more = raw + message.get("body", b""), message.get("more_body", False)
    body = json.loads(raw)
    await asyncio.sleep(delay_s(body))
    if not body.get("stream"):
        await _respond(send, json.dumps(completion(body)).encode())
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    for block in chunks(body):
        await send({"type": "http.response.body", "body": block.encode(), "more_body": True})
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b""})


async def _respond(send: Any, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False, timeout_keep_alive=600
    )
