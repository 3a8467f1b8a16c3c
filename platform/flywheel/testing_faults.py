"""Engines that misbehave, one way each, behind the gateway's ``EngineClient``. ``FAULTS`` names them all."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections.abc import AsyncIterator
from typing import Any

from flywheel.gateway.problems import ApiProblem, unavailable
from flywheel.testing import FakeEngine, LocalEngines


def _event(text: Any = None, finish: Any = None, **more: Any) -> str:
    chunk = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}], **more}
    return f"data: {json.dumps(chunk)}\n\n"


async def hung(_body: dict[str, Any]) -> AsyncIterator[str]:
    """Never says anything."""
    await asyncio.sleep(3600)
    yield ""


async def hung_midway(_body: dict[str, Any]) -> AsyncIterator[str]:
    """Begins, then says no more."""
    yield _event("so far so g")
    await asyncio.sleep(3600)


async def slow(body: dict[str, Any]) -> AsyncIterator[str]:
    """Ten times the time of the live model, and right."""
    await asyncio.sleep(0.1)
    yield _event(body["messages"][-1]["content"].upper(), "stop")


async def fails(_body: dict[str, Any]) -> AsyncIterator[str]:
    """An error event, as from an engine that is out of memory."""
    yield 'data: {"error": {"message": "out of memory", "type": "engine_error", "code": 500}}\n\n'


async def raises(_body: dict[str, Any]) -> AsyncIterator[str]:
    """An exception of the engine's own."""
    raise RuntimeError("CUDA error: an illegal memory access was encountered")
    yield ""


async def refuses(_body: dict[str, Any]) -> AsyncIterator[str]:
    """Nobody listens."""
    raise unavailable("connection refused", "engine_unavailable")
    yield ""


async def declines(_body: dict[str, Any]) -> AsyncIterator[str]:
    """A 4xx about this request."""
    raise ApiProblem(400, "this model's maximum context length is 3 tokens", "invalid_request_error")
    yield ""


async def garbage(body: dict[str, Any]) -> AsyncIterator[str]:
    """Bytes."""
    chance = random.Random(body["request_id"])
    for _ in range(100):
        yield chance.choice(["data: ", "", "\n"]) + chance.randbytes(200).decode("latin-1") + "\n\n"


async def wrong_types(_body: dict[str, Any]) -> AsyncIterator[str]:
    """JSON of another shape."""
    yield _event({"text": 1}, 7, usage=[])


async def not_numbers(_body: dict[str, Any]) -> AsyncIterator[str]:
    """A good answer whose counts are no numbers."""
    yield _event("fine", "stop", usage={"prompt_tokens": float("nan"), "completion_tokens": float("inf")})


async def missing_fields(_body: dict[str, Any]) -> AsyncIterator[str]:
    """A choice without anything."""
    yield 'data: {"choices": [{}]}\n\n'


async def half(_body: dict[str, Any]) -> AsyncIterator[str]:
    """Ends in the middle of its answer."""
    yield _event("and then it")


async def endless(_body: dict[str, Any]) -> AsyncIterator[str]:
    """Always has more, and never pauses."""
    for _ in itertools.count():
        yield _event("")


async def huge(_body: dict[str, Any]) -> AsyncIterator[str]:
    """100 MB of text, 1 MB a block."""
    for _ in range(100):
        yield _event("x" * 1_000_000)


FAULTS = {fault.__name__: fault for fault in (
    hung, hung_midway, slow, fails, raises, refuses, declines, garbage, wrong_types, not_numbers, missing_fields, half,
    endless, huge,
)}  # fmt: skip
CRASH_LOOP = "crash_loop"
"""Answers for a moment after each start, then is gone for a moment."""
EXPECTED = {
    "hung": {"timeout"}, "hung_midway": {"timeout"}, "slow": {None, "timeout"}, "fails": {"engine_error"},
    "raises": {"engine_error"}, "refuses": {"unavailable"}, "declines": {"refused"}, "garbage": {"malformed"},
    "wrong_types": {"malformed"}, "not_numbers": {None}, "missing_fields": {"malformed"}, "half": {"malformed"},
    "endless": {"too_large", "timeout"}, "huge": {"too_large"}, CRASH_LOOP: {None, "unavailable"},
}  # fmt: skip
"""``error_kind`` of the pairs that each leaves behind. None: some were answered. On a busy machine slow is too slow."""


class FaultyEngines(LocalEngines):
    """A good engine ``live``, and candidates that are named after what is wrong with them."""

    def __init__(self, delay_s: float = 0.01) -> None:
        super().__init__(FakeEngine("live", delay_s=delay_s))

    async def stream(self, version: str, body: dict[str, Any], timeout_s: float) -> AsyncIterator[str]:
        """Events of the live engine, or of a fault."""
        if version == "live":
            blocks = super().stream(version, body, timeout_s)
        elif version == CRASH_LOOP:
            blocks = self._crashing(body)
        else:
            blocks = FAULTS[version](body)
        async for block in blocks:
            yield block

    async def ready(self, version: str) -> bool:
        """A crash loop is ready now and then, all others always."""
        return version != CRASH_LOOP or _is_up()

    async def _crashing(self, body: dict[str, Any]) -> AsyncIterator[str]:
        if not _is_up():
            raise unavailable("gone", "engine_unavailable")
        yield _event(body["messages"][-1]["content"].upper(), "stop")


def _is_up() -> bool:
    return time.monotonic() % 0.6 < 0.3


class FaultyEngine(FakeEngine):
    """A ``FakeEngine`` that begins to fail when it is told to: ``error``, ``empty``, ``slow``; None ends that."""

    def __init__(self, version: str = "fake") -> None:
        super().__init__(version)
        self.fault: str | None = None

    async def plant(self, fault: str | None) -> None:
        """From now on."""
        self.fault = fault

    async def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        """One whole answer, or what the fault makes of it."""
        if self.fault == "error":
            raise RuntimeError("the engine is broken on purpose")
        answer = await super().chat(body)
        if self.fault == "slow":
            await asyncio.sleep(1.0)
        if self.fault == "empty":
            for choice in answer.get("choices", []):
                choice["message"]["content"] = ""
        return answer


def deploy_faulty_engine(version: str) -> None:
    """Run a ``FaultyEngine`` as the Serve application that ``version``'s engine would be."""
    from ray import serve

    from flywheel.inference.engines import app_name

    deployment: Any = serve.deployment(
        FaultyEngine, name="engine", max_ongoing_requests=256, ray_actor_options={"num_cpus": 0}
    )
    serve.run(deployment.bind(version), name=app_name(version), route_prefix=None)


def plant(version: str, fault: str | None) -> None:
    """Let a deployed ``FaultyEngine`` fail from now on."""
    from ray import serve

    from flywheel.inference.engines import app_name

    serve.get_app_handle(app_name(version)).plant.remote(fault).result(timeout_s=30)
