"""One chat request: answer, make durable, acknowledge. The order is promise 1.

Unary: the 2xx follows the sync of the row. Stream: the request row is synced before the first byte, the
completion row before ``[DONE]``; without ``[DONE]`` nothing was acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from flywheel.capture.events import to_event
from flywheel.capture.recorder import Recorder
from flywheel.errors import CaptureError
from flywheel.gateway import metrics
from flywheel.gateway.asked import Asked
from flywheel.gateway.auth import ApiKeys
from flywheel.gateway.choosing.best_of import BestOf
from flywheel.gateway.limits import tokens_of
from flywheel.gateway.mirror import Mirror
from flywheel.gateway.outcomes.counting import NoOutcomes, Outcomes
from flywheel.gateway.problems import ApiProblem, from_engine, timed_out, unavailable
from flywheel.gateway.record import DONE, Answer, event, inference_row, mark, payload
from flywheel.gateway.route import Assignment, Router
from flywheel.gateway.tokens import FeedbackTokens
from flywheel.records import Inference

log = logging.getLogger(__name__)
DISCONNECT = "client_disconnect"


Draw = Callable[[Asked, Answer, str, float], Awaitable[dict[str, Any]]]
"""Asks for an answer of a version within so many seconds: its body. What was drawn beside it is noted in ``Answer``."""


@dataclass
class Answering:
    """What answering needs; one per replica."""

    best_of: BestOf
    router: Router
    outbox: Recorder
    mirror: Mirror
    tokens: FeedbackTokens
    config_hash: str
    timeout_s: float
    """How long the next event of a stream may take."""
    first_s: float
    """How long a whole answer, or the first event of a stream, may take."""
    keys: ApiKeys
    outcomes: Outcomes = field(default_factory=NoOutcomes)
    background: set[asyncio.Task[None]] = field(default_factory=set)

    def row(self, asked: Asked, answer: Answer, assignment: Assignment) -> Inference:
        """The row of this request as it stands."""
        return inference_row(asked, answer, assignment, config_hash=self.config_hash)

    def charge(self, asked: Asked, answer: Answer) -> None:
        """Take an answer's tokens from the budget of the key that asked, also if the client left before its end."""
        if asked.key_id is None:
            return
        tokens = tokens_of(
            answer.prompt_tokens,
            answer.completion_tokens,
            asked_chars=sum(len(message.content or "") for message in asked.messages),
            answered_chars=sum(len(text) for text in answer.choices),
        )
        self.keys.charge(asked.key_id, tokens)

    async def store(self, row: Inference) -> None:
        """Make a finished inference durable.

        Raises:
            ApiProblem: 503: it is not.
        """
        try:
            await self.outbox.append([to_event(row, flow=row.flow, tenant=row.tenant)])
        except CaptureError as error:
            raise unavailable(str(error), "not_recorded") from error

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Finish ``work`` although its request is being cancelled; a failure is logged."""
        task = asyncio.create_task(_logged(work))
        self.background.add(task)
        task.add_done_callback(self.background.discard)


async def whole(service: Answering, asked: Asked, assignment: Assignment, draw: Draw | None = None) -> dict[str, Any]:
    """Answer without streaming: the body of the 200.

    Args:
        service: what answering needs.
        asked: the request.
        assignment: who answers.
        draw: asks the engines; default: one answer, or the best of several.

    Raises:
        ApiProblem: the engine gave no answer, or the answer is not durable.
    """
    answer, version = Answer(started=assignment.decided), assignment.variant.version
    try:
        body = await (draw or service.best_of.chat)(asked, answer, version, service.first_s)
        answer.take(body)
    except asyncio.CancelledError:
        answer.ended(DISCONNECT)
        service.outcomes.left(answer, assignment)
        service.charge(asked, answer)
        metrics.REQUESTS.labels(DISCONNECT).inc()
        service.later(service.store(service.row(asked, answer, assignment)))
        raise
    except ApiProblem as problem:
        _failed(service, asked, answer, assignment, problem)
        raise
    service.charge(asked, answer)
    row = service.row(asked, answer, assignment)
    await service.store(row)
    service.mirror.offer(asked, row, assignment.routing.shadows)
    _observe(answer, version)
    service.outcomes.answered(asked, answer, assignment)
    return mark(body, asked, service.tokens.issue(asked.tenant, asked.inference_id, asked.session_id), version)


async def streamed(service: Answering, asked: Asked, assignment: Assignment) -> Stream:
    """Start a streamed answer: its first event is there and its request row is durable.

    Raises:
        ApiProblem: the engine gave no first event, or the request is not durable. No byte was sent.
    """
    answer, version = Answer(started=assignment.decided), assignment.variant.version
    blocks = service.best_of.stream(asked, answer, version, service.timeout_s)
    try:
        first = await _first(blocks, version, service.first_s)
        answer.first_ms = answer.elapsed_ms()
        await service.outbox.open_request(service.row(asked, answer, assignment))
    except CaptureError as error:
        await _close(blocks)
        raise unavailable(str(error), "not_recorded") from error
    except ApiProblem as problem:
        _failed(service, asked, answer, assignment, problem)
        raise
    except asyncio.CancelledError:
        answer.ended(DISCONNECT)
        service.outcomes.left(answer, assignment)
        service.charge(asked, answer)
        metrics.REQUESTS.labels(DISCONNECT).inc()
        service.later(_left_early(service, blocks, service.row(asked, answer, assignment)))
        raise
    return Stream(service, asked, assignment, answer, first=first, blocks=blocks)


class Stream:
    """A started answer. ``events`` feeds the client; ``end`` must be called whatever happened to the client."""

    def __init__(
        self,
        service: Answering,
        asked: Asked,
        assignment: Assignment,
        answer: Answer,
        *,
        first: dict[str, Any],
        blocks: AsyncIterator[str],
    ) -> None:
        self._service, self._asked, self._assignment, self._answer = service, asked, assignment, answer
        self._first, self._blocks = first, blocks
        self._closing = False
        self._id = asked.answer_id
        self.token = service.tokens.issue(asked.tenant, asked.inference_id, asked.session_id)

    async def events(self) -> AsyncIterator[str]:
        """Server-sent events as the client gets them; ``[DONE]`` only after the completion row is durable."""
        breaker, version = self._service.router.breaker, self._assignment.variant.version
        try:
            if text := self._forward(mark(self._first, self._asked, self.token, version)):
                yield text
            async for block in self._blocks:
                chunk = payload(block)
                if chunk is not None and (text := self._forward(_checked(chunk))):
                    yield text
            row = await self._complete(self._answer.collected.finish_reason or "stop")
        except ApiProblem as problem:
            metrics.REQUESTS.labels("error").inc()
            self._service.outcomes.failed(self._assignment)
            if self._assignment.may_fall_back:
                breaker.failed(version)
            await _logged(self._fail())
            yield event(problem.body())
            return
        except CaptureError as error:
            metrics.REQUESTS.labels("not_recorded").inc()
            yield event(unavailable(str(error), "not_recorded").body())
            return
        self._service.mirror.offer(self._asked, row, self._assignment.routing.shadows)
        _observe(self._answer, version)
        self._service.outcomes.answered(self._asked, self._answer, self._assignment)
        if self._assignment.may_fall_back:
            breaker.succeeded(version)
        yield DONE

    def end(self) -> None:
        """The response is over. Before ``[DONE]`` that means: the client went away; record what it got."""
        if not self._closing:
            self._service.outcomes.left(self._answer, self._assignment)
            metrics.REQUESTS.labels(DISCONNECT).inc()
            self._service.later(self._abandon())

    async def _abandon(self) -> None:
        await _close(self._blocks)  # frees the engine first
        await self._complete(DISCONNECT)

    async def _fail(self) -> None:
        await self._complete("error")

    async def _complete(self, reason: str) -> Inference:
        self._closing = True  # from here on the outbox has the row, also if the client leaves while it is synced
        self._answer.ended(reason)
        self._service.charge(self._asked, self._answer)
        row = self._service.row(self._asked, self._answer, self._assignment)
        await asyncio.shield(self._service.outbox.complete(row))
        return row

    def _forward(self, chunk: dict[str, Any]) -> str | None:
        wanted = self._answer.take_chunk(chunk)
        chunk["id"] = self._id  # the engine's own may differ; a client joins chunks by it
        return event(chunk) if wanted or self._asked.include_usage else None


async def _first(blocks: AsyncIterator[str], version: str, within_s: float) -> dict[str, Any]:
    try:
        async with asyncio.timeout(within_s):
            async for block in blocks:
                chunk = payload(block)
                if chunk is not None:
                    return _checked(chunk)
    except TimeoutError as error:
        raise timed_out(version, within_s) from error
    raise ApiProblem(502, "the engine ended without an answer", "server_error", code="engine_error")


def _checked(chunk: dict[str, Any]) -> dict[str, Any]:
    if "error" in chunk:
        raise from_engine(chunk)
    return chunk


def _failed(service: Answering, asked: Asked, answer: Answer, assignment: Assignment, problem: ApiProblem) -> None:
    """A failure on our side is a row too; a malformed request is none, nor what the live model is asked now."""
    if assignment.may_fall_back:
        return
    metrics.REQUESTS.labels("error" if problem.status >= 500 else "refused").inc()
    if problem.code == "engine_unavailable":
        service.router.lost(assignment.variant.version)
    if problem.status >= 500:
        service.outcomes.failed(assignment)
        answer.ended("error")
        service.later(service.store(service.row(asked, answer, assignment)))


def _observe(answer: Answer, version: str) -> None:
    metrics.REQUESTS.labels("ok").inc()
    metrics.SECONDS.labels(version).observe((answer.latency_ms or 0) / 1e3)


async def _close(blocks: AsyncIterator[str]) -> None:
    close = getattr(blocks, "aclose", None)
    if close is not None:
        with contextlib.suppress(RuntimeError):  # already being finalised
            await close()


async def _left_early(service: Answering, blocks: AsyncIterator[str], row: Inference) -> None:
    """The client left before the first byte; the request may be noted as open already."""
    await _close(blocks)
    await service.outbox.complete(row)


async def _logged(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except (ApiProblem, CaptureError) as error:
        log.warning("an unfinished request was not recorded: %s", error)
