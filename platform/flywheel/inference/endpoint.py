"""Answers from an OpenAI-compatible service that is not ours: several requests in flight, errors per item."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from flywheel.inference.generate import Completion, completion, run_to_end
from flywheel.records import Message

ATTEMPTS: Final = 4
_BUSY: Final = frozenset({408, 409, 429})
"""Worth another try, as are all codes from 500 on."""
_REFUSED: Final = frozenset({400, 413, 422})
"""About this very request, so that it is the model's final answer; a wrong key, say, is not."""


class _TryAgainError(Exception):
    """An answer that may be another one in a moment."""


@dataclass(frozen=True)
class Endpoint:
    """A service at ``url`` (``https://host/v1``). Calling it has the signature of ``generate.generate``.

    ``key_env`` names the environment variable that holds its key; nothing else ever holds it. ``transport`` stands
    in for the network in tests.
    """

    url: str
    key_env: str
    transport: httpx.AsyncBaseTransport | None = None

    def __call__(
        self,
        version: str,
        conversations: Sequence[Sequence[Message]],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        seed: int | None = None,
        concurrency: int = 32,
        timeout_s: float = 60,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[Completion]:
        """One completion a conversation, in order; ``version`` is the service's name of the model."""
        drawn = {} if seed is None else {"seed": seed}
        bodies = [
            {
                "model": version,
                "messages": [message.model_dump() for message in conversation],
                "max_tokens": max_tokens,
                "temperature": temperature,
                **drawn,
            }
            for conversation in conversations
        ]
        return run_to_end(self._all(bodies, concurrency, timeout_s, on_progress))

    async def _all(
        self, bodies: list[dict[str, Any]], concurrency: int, timeout_s: float, report: Callable[[int], None] | None
    ) -> list[Completion]:
        gate, done = asyncio.Semaphore(concurrency), 0

        async def one(client: httpx.AsyncClient, body: dict[str, Any]) -> Completion:
            nonlocal done
            async with gate:
                answer = await _ask(client, body)
            done += 1
            if report:
                report(done)
            return completion(answer)

        key = os.environ.get(self.key_env)
        async with httpx.AsyncClient(
            base_url=self.url.rstrip("/") + "/",
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=timeout_s,
            transport=self.transport,
        ) as client:
            return list(await asyncio.gather(*(one(client, body) for body in bodies)))


async def _ask(client: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
    began = time.perf_counter()
    answer: dict[str, Any] = {}
    again = AsyncRetrying(
        retry=retry_if_exception_type((_TryAgainError, httpx.TransportError)),
        wait=wait_exponential_jitter(initial=0.5, max=20),
        stop=stop_after_attempt(ATTEMPTS),
        reraise=True,
    )
    try:
        async for attempt in again:
            with attempt:
                began = time.perf_counter()
                answer = _read(await client.post("chat/completions", json=body))
    except (_TryAgainError, httpx.TransportError) as error:
        answer = {"error": {"message": str(error) or type(error).__name__, "code": 503}}
    answer["latency_ms"] = (time.perf_counter() - began) * 1e3
    return answer


def _read(response: httpx.Response) -> dict[str, Any]:
    """The answer, or its error in the engine's shape."""
    if response.status_code in _BUSY or response.status_code >= 500:
        raise _TryAgainError(f"the endpoint answered {response.status_code}")
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if response.status_code >= 400:
        code = response.status_code if response.status_code in _REFUSED else 503
        return {"error": {"message": f"the endpoint answered {response.status_code}: {_said(answer)}", "code": code}}
    if not isinstance(answer, dict) or not answer.get("choices"):
        return {"error": {"message": "the endpoint's answer is no chat completion", "code": 502}}
    return answer


def _said(answer: Any) -> str:
    error = answer.get("error") if isinstance(answer, dict) else None
    text = error.get("message") if isinstance(error, dict) else error
    return str(text or "no message")[:200]
