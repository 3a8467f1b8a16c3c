"""A language model behind an OpenAI-compatible endpoint: bounded concurrency, retries, one completion a prompt."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from flywheel.errors import UsageError
from flywheel.inference.generate import Completion, completion, run_to_end
from flywheel.judging.judge import Notify
from flywheel.records import Message

if TYPE_CHECKING:
    import httpx

Form = Literal["json_schema", "json_object", "free"]
_RETRIED = frozenset({408, 409, 425, 429})
_FINAL = frozenset({400, 413, 422})
"""What an endpoint will never answer, such as a question that is too long. Other codes tell of a wrong set-up."""


def is_inside(url: str, in_cluster: Collection[str] = ()) -> bool:
    """Whether an address is this machine, a Kubernetes service, or a host the configuration calls its own.

    Everything else is a third party: a private address may belong to anybody on the network.
    """
    host = (urlsplit(url).hostname or "").lower()
    if host == "localhost" or host in {name.lower() for name in in_cluster}:
        return True
    if host.endswith((".svc", ".svc.cluster.local")):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Endpoint:
    """Asks ``<url>/chat/completions``.

    Attributes:
        url: base address, usually ending in ``/v1``.
        model: its name there.
        key_env: environment variable that holds the key; the key is read when asking and kept nowhere.
        inside: no proxy is used towards our own machines.
        form: how the endpoint is told to keep to the form of the reply; ``free`` only asks.
        max_tokens: longest reply.
        concurrency: requests in flight.
        timeout_s: seconds one try may take.
        attempts: tries of one question; what the endpoint refuses is not tried again.
        pause_s: first pause between tries; it doubles, up to 30 seconds.
        reported: names of models in the replies so far.
    """

    url: str
    model: str
    key_env: str | None = None
    inside: bool = False
    form: Form = "json_schema"
    max_tokens: int = 32
    concurrency: int = 8
    timeout_s: float = 60
    attempts: int = 4
    pause_s: float = 0.5
    reported: list[str] = field(default_factory=list[str])

    def __call__(
        self, asked: Sequence[Sequence[Message]], schema: Mapping[str, Any], on_progress: Notify | None = None
    ) -> list[Completion]:
        """One completion a prompt, in order; a question that failed has ``error`` set.

        Raises:
            UsageError: the variable that should hold the key is not set.
        """
        bodies = [self._body(prompt, schema) for prompt in asked]
        return run_to_end(self._ask_all(bodies, self._key(), on_progress))

    def _key(self) -> str | None:
        if self.key_env is None:
            return None
        key = os.environ.get(self.key_env)
        if not key:
            raise UsageError(
                f"the judge's key is expected in the environment variable {self.key_env}, which is not set"
            )
        return key

    def _body(self, prompt: Sequence[Message], schema: Mapping[str, Any]) -> dict[str, Any]:
        body = {
            "model": self.model,
            "messages": [message.model_dump() for message in prompt],
            "max_tokens": self.max_tokens,
            "temperature": 0.0,
        }
        return body | response_format(self.form, schema)

    async def _ask_all(
        self, bodies: Sequence[dict[str, Any]], key: str | None, on_progress: Notify | None
    ) -> list[Completion]:
        import httpx

        gate, done = asyncio.Semaphore(self.concurrency), 0
        headers = {"authorization": f"Bearer {key}"} if key else {}

        async def one(client: httpx.AsyncClient, body: dict[str, Any]) -> Completion:
            nonlocal done
            async with gate:
                answer = await self._ask(client, body, key)
            done += 1
            if on_progress:
                on_progress(done, len(bodies))
            return answer

        limits = httpx.Limits(max_connections=self.concurrency)
        async with httpx.AsyncClient(
            headers=headers,
            timeout=self.timeout_s,
            limits=limits,
            trust_env=not self.inside,
            verify=not self.url.startswith("http://"),  # loading certificates that nobody asks for takes its time
        ) as client:
            return list(await asyncio.gather(*(one(client, body) for body in bodies)))

    async def _ask(self, client: httpx.AsyncClient, body: dict[str, Any], key: str | None) -> Completion:
        import httpx
        import tenacity

        started = time.perf_counter()
        tries = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(self.attempts),
            wait=tenacity.wait_random_exponential(multiplier=self.pause_s, max=30),
            retry=tenacity.retry_if_exception(_worth_another_try),
            reraise=True,
        )
        try:
            answer = await tries(self._post, client, body)
            answer["latency_ms"] = (time.perf_counter() - started) * 1e3
            result = completion(answer)
        except httpx.HTTPStatusError as error:
            text = _without(key, error.response.text[:200])
            code = error.response.status_code
            return completion({"error": {"message": f"HTTP {code}: {text}", "code": code if code in _FINAL else None}})
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return completion({"error": {"message": _without(key, f"{type(error).__name__}: {error}")}})
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return completion({"error": {"message": "the endpoint's reply is not an OpenAI chat completion"}})
        self._note(answer)
        return result

    async def _post(self, client: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
        response = await client.post(f"{self.url.rstrip('/')}/chat/completions", json=body)
        return response.raise_for_status().json()

    def _note(self, answer: Mapping[str, Any]) -> None:
        name = "/".join(str(answer[part]) for part in ("model", "system_fingerprint") if answer.get(part))
        if name and name not in self.reported:
            self.reported.append(name)


def response_format(form: Form, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an OpenAI request that holds the reply to a form."""
    if form == "free":
        return {}
    if form == "json_object":
        return {"response_format": {"type": "json_object"}}
    named = {"name": "verdict", "schema": dict(schema), "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


def _worth_another_try(error: BaseException) -> bool:
    import httpx

    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in _RETRIED or error.response.status_code >= 500
    return isinstance(error, httpx.TransportError)


def _without(key: str | None, text: str) -> str:
    return text.replace(key, "***") if key else text
