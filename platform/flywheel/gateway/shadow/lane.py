"""One candidate's lane: its queue, its few requests at a time, its budget, its breaker.

Every copy that was sampled ends as sent or as dropped for a reason, and every sent one has an outcome:
``sampled = sent + dropped (+ waiting)`` and ``sent = sum of outcomes (+ under way)`` hold at any moment.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from flywheel.capture.events import to_event
from flywheel.capture.recorder import Recorder
from flywheel.errors import CaptureError
from flywheel.gateway import metrics
from flywheel.gateway.engine_client import EngineClient
from flywheel.gateway.route import Router
from flywheel.gateway.shadow.breaker import Breaker
from flywheel.gateway.shadow.budget import Bucket
from flywheel.gateway.shadow.heard import Heard, listen
from flywheel.gateway.shadow.limits import Limits
from flywheel.gateway.shadow.pair import Copy, pair_of, true_cost

log = logging.getLogger(__name__)
CANDIDATES_FAULT = frozenset({"timeout", "unavailable", "engine_error", "malformed", "too_large"})
"""What opens the breaker. A refusal (4xx) is about that request."""

MAX_WAIT_S = 60.0
"""In the queue. A consent that another replica saw withdrawn is acted upon late by this much at the most."""


@dataclass
class Held:
    """Text that waits or is under way in all lanes of this replica together."""

    most: int
    size: int = 0


class Lane:
    """Sends the copies for one candidate, in order, at most ``concurrency`` at a time."""

    def __init__(
        self, candidate: str, limits: Limits, held: Held, *, engines: EngineClient, router: Router, outbox: Recorder
    ) -> None:
        self.candidate, self.limits = candidate, limits
        self._held, self._engines, self._router, self._outbox = held, engines, router, outbox
        self._waiting: deque[Copy] = deque()
        self._tasks: set[asyncio.Task[str]] = set()
        self._requests, self._tokens = Bucket(limits.requests_per_minute), Bucket(limits.tokens_per_minute)
        self._breaker = Breaker()

    def adjust(self, limits: Limits) -> None:
        """Other limits from now on, as the routing says."""
        if limits != self.limits:
            self.limits = limits
            self._requests.resize(limits.requests_per_minute)
            self._tokens.resize(limits.tokens_per_minute)

    def offer(self, copy: Copy) -> None:
        """Queue a sampled copy, or drop it with a reason. Never waits, never raises."""
        metrics.SHADOW_SAMPLED.labels(self.candidate).inc()
        reason = self._refusal(copy)
        if reason:
            self._count_drop(reason)
            return
        self._held.size += copy.size
        self._waiting.append(copy)
        self._fill()

    def drop(self, reason: str, which: Callable[[Copy], bool] = lambda _: True) -> None:
        """Take the waiting copies that ``which`` is true of out of the queue."""
        doomed = [copy for copy in self._waiting if which(copy)]
        self._waiting = deque(copy for copy in self._waiting if not which(copy))
        for copy in doomed:
            self._discard(copy, reason)
        metrics.SHADOW_WAITING.labels(self.candidate).set(len(self._waiting))

    async def close(self) -> None:
        """Drop what waits and cut off what is under way."""
        self.drop("shutdown")
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is under way."""
        return not self._waiting and not self._tasks

    def _refusal(self, copy: Copy) -> str | None:
        """Why this copy is not queued; what it costs is charged only when nothing else speaks against it."""
        now = time.monotonic()
        if self._outbox.mode == "off" or self._outbox.refusal() is not None:
            return "not_recording"
        if not self._router.is_ready(self.candidate):
            return "engine_not_ready"
        return self._full(copy, now) or self._overspent(copy, now)

    def _full(self, copy: Copy, now: float) -> str | None:
        if self._breaker.is_open(now):
            return "breaker_open"
        if len(self._waiting) >= self.limits.queue:
            return "queue_full"
        if self._held.size + copy.size > self._held.most:
            return "memory"
        return None

    def _overspent(self, copy: Copy, now: float) -> str | None:
        if not self._requests.take(1, now):
            return "request_budget"
        if not self._tokens.take(copy.cost, now):
            self._requests.give_back(1)
            return "token_budget"
        return None

    def _fill(self) -> None:
        while self._waiting and len(self._tasks) < self.limits.concurrency:
            copy, now = self._waiting.popleft(), time.monotonic()
            reason = self._too_late(copy, now)
            if reason:
                self._discard(copy, reason)
                continue
            metrics.SHADOW_SENT.labels(self.candidate).inc()
            task = asyncio.create_task(self._send(copy, now))
            self._tasks.add(task)
            task.add_done_callback(partial(self._finished, copy))
        metrics.SHADOW_WAITING.labels(self.candidate).set(len(self._waiting))

    def _too_late(self, copy: Copy, now: float) -> str | None:
        if now - copy.queued > MAX_WAIT_S:
            return "stale"
        if not self._router.is_ready(self.candidate):
            return "engine_not_ready"
        return None if self._breaker.admit(now) else "breaker_open"

    async def _send(self, copy: Copy, now: float) -> str:
        """Ask, learn, store; the outcome."""
        blocks = self._engines.stream(self.candidate, copy.body(self.limits), self.limits.timeout_s)
        heard = await listen(blocks, self.limits)
        self._learn(copy, heard)
        await self._store(copy, heard, (now - copy.queued) * 1e3)
        return heard.error_kind or "answered"

    def _finished(self, copy: Copy, task: asyncio.Task[str]) -> None:
        """Here and not in the task, because one that is cancelled early never runs at all."""
        self._tasks.discard(task)
        self._held.size -= copy.size
        outcome = _outcome(task)
        metrics.SHADOW_OUTCOMES.labels(self.candidate, outcome).inc()
        if outcome in {"interrupted", "failed"}:
            self._breaker.undecided()
        if outcome != "interrupted":
            self._fill()

    def _learn(self, copy: Copy, heard: Heard) -> None:
        self._tokens.give_back(copy.cost - true_cost(copy, heard))
        if heard.error_kind == "unavailable":
            self._router.lost(self.candidate)
        if heard.error_kind in CANDIDATES_FAULT:
            self._breaker.failed(time.monotonic())
        else:
            self._breaker.succeeded()

    async def _store(self, copy: Copy, heard: Heard, queue_ms: float) -> None:
        pair = pair_of(copy, heard, queue_ms=queue_ms)
        try:
            await self._outbox.append([to_event(pair, flow=pair.flow, tenant=copy.inference.tenant)])
        except CaptureError as error:
            metrics.SHADOW_PAIRS_LOST.labels(self.candidate).inc()
            log.warning("a shadow pair was not stored: %s", error)

    def _discard(self, copy: Copy, reason: str) -> None:
        self._held.size -= copy.size
        self._requests.give_back(1)
        self._tokens.give_back(copy.cost)
        self._count_drop(reason)

    def _count_drop(self, reason: str) -> None:
        metrics.SHADOW_DROPPED.labels(self.candidate, reason).inc()


def _outcome(task: asyncio.Task[str]) -> str:
    if task.cancelled():
        return "interrupted"
    if error := task.exception():  # a bug here must neither end the lane nor touch the live path
        log.error("a shadow request failed", exc_info=error)
        return "failed"
    return task.result()
