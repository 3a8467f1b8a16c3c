"""The shadow: live requests repeated at candidate engines, unseen by users.

Its own queue, own timeout, own concurrency; what does not fit is dropped with a counter. Consent is checked
before the queue. A request enters only after its live answer was recorded and sent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import NamedTuple

from flywheel.capture.events import to_event
from flywheel.capture.outbox import Outbox
from flywheel.config import GatewayConfig
from flywheel.errors import CaptureError
from flywheel.gateway import metrics
from flywheel.gateway.asked import Asked
from flywheel.gateway.engine_client import EngineClient
from flywheel.gateway.problems import ApiProblem
from flywheel.gateway.record import Answer
from flywheel.gateway.route import Router, mirrored
from flywheel.records import Inference, ShadowPair
from flywheel.rollout.routing import Shadow

log = logging.getLogger(__name__)


class _Copy(NamedTuple):
    candidate: str
    asked: Asked
    inference: Inference


class Mirror:
    """Sends copies of live requests to the shadows and records both answers side by side."""

    def __init__(self, engines: EngineClient, router: Router, outbox: Outbox, config: GatewayConfig) -> None:
        self._engines, self._router, self._outbox, self._config = engines, router, outbox, config
        self._queue: asyncio.Queue[_Copy] = asyncio.Queue()

    def offer(self, asked: Asked, inference: Inference, shadows: Sequence[Shadow]) -> None:
        """Queue the copies of a recorded request. Never waits, never raises."""
        for shadow in mirrored(inference, shadows):
            if not self._router.is_ready(shadow.version):
                metrics.SHADOW_DROPPED.labels(shadow.version, "engine_not_ready").inc()
            elif self._queue.qsize() >= self._config.shadow_queue:
                metrics.SHADOW_DROPPED.labels(shadow.version, "queue_full").inc()
            else:
                self._queue.put_nowait(_Copy(shadow.version, asked, inference))

    async def run(self) -> None:
        """Work the queue until cancelled."""
        await asyncio.gather(*(self._work() for _ in range(self._config.shadow_concurrency)))

    async def _work(self) -> None:
        while True:
            copy = await self._queue.get()
            try:
                await self._repeat(copy)
            except CaptureError as error:
                metrics.SHADOW_DROPPED.labels(copy.candidate, "not_stored").inc()
                log.warning("a shadow pair was not stored: %s", error)
            except Exception:  # a bug here must neither end the worker nor touch the live path
                metrics.SHADOW_DROPPED.labels(copy.candidate, "failed").inc()
                log.exception("a shadow request failed")

    async def _repeat(self, copy: _Copy) -> None:
        request_id = f"shadow-{copy.candidate}-{copy.inference.inference_id}"
        body = copy.asked.engine_body(copy.candidate, stream=False, request_id=request_id)
        body["n"] = 1
        answer, error = Answer(), None
        metrics.SHADOW_SENT.labels(copy.candidate).inc()
        try:
            answer.take(await self._engines.chat(copy.candidate, body, self._config.shadow_timeout_s))
        except ApiProblem as problem:
            error = problem.message
            if problem.code == "engine_unavailable":
                self._router.lost(copy.candidate)
        await self._outbox.append(
            [to_event(_pair(copy, answer, error), flow=copy.inference.flow, tenant=copy.inference.tenant)]
        )


def _pair(copy: _Copy, answer: Answer, error: str | None) -> ShadowPair:
    live = copy.inference
    return ShadowPair(
        inference_id=live.inference_id,
        flow=live.flow,
        ts=live.ts,
        subject=live.subject,
        candidate=copy.candidate,
        live_version=live.model_version,
        live_answer=live.choices[live.choice_served],
        candidate_answer=answer.choices[0] if answer.choices else None,
        candidate_tool_calls=answer.tool_calls[0] if answer.tool_calls else [],
        live_latency_ms=live.latency_ms,
        candidate_latency_ms=answer.latency_ms,
        candidate_tokens=answer.completion_tokens,
        error=error,
    )
