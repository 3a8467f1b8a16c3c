"""The simulated product's client: sends what its users ask, posts how they react. Plain HTTP, as any product."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import httpx

from flywheel.demo.reviewer import TruthBook
from flywheel.demo.users import Population, Request
from flywheel.errors import EngineError

MODEL = "triage"
MAX_TOKENS = 40


@dataclass
class TrafficReport:
    """What was sent and what came of it."""

    sent: int = 0
    right: int = 0
    reactions: int = 0
    failed: int = 0
    inference_ids: list[str] = field(default_factory=list)
    first_correction: float | None = None
    """When one was acknowledged, ``time.monotonic``."""

    def add(self, other: TrafficReport) -> None:
        """Count another part of the traffic, too."""
        self.sent += other.sent
        self.right += other.right
        self.reactions += other.reactions
        self.failed += other.failed
        self.inference_ids += other.inference_ids

    @property
    def accuracy(self) -> float:
        """Share of answers that were right, by the simulation's truth."""
        return self.right / self.sent if self.sent else 0.0


def send(
    url: str,
    population: Population,
    requests: Iterable[Request],
    book: TruthBook,
    *,
    concurrency: int = 16,
    on_progress: Callable[[TrafficReport], None] | None = None,
) -> TrafficReport:
    """Send requests through the gateway, note the truth of each, and post the users' reactions.

    Raises:
        EngineError: the gateway refused an answer; names status and text.
    """
    return asyncio.run(_send(url, population, list(requests), book, concurrency=concurrency, on_progress=on_progress))


class Background:
    """Traffic that goes on while a turn runs: only while a candidate is in the shadow, at a given rate."""

    def __init__(
        self,
        url: str,
        population: Population,
        book: TruthBook,
        *,
        wanted: Callable[[], bool],
        batch: int = 24,
        concurrency: int = 8,
    ) -> None:
        self._url, self._population, self._book = url, population, book
        self._wanted, self._batch, self._concurrency = wanted, batch, concurrency
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demo-traffic", daemon=True)
        self.report = TrafficReport()
        self.error: Exception | None = None

    def __enter__(self) -> Background:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=60)

    def _run(self) -> None:
        try:
            while not self._stop.wait(1.0):
                if self._wanted():
                    requests = self._population.requests(self._batch)
                    part = send(self._url, self._population, requests, self._book, concurrency=self._concurrency)
                    self.report.add(part)
        except (httpx.HTTPError, EngineError) as error:  # shown by the demo at its end: users must not notice a shadow
            self.error = error


async def _send(
    url: str,
    population: Population,
    requests: list[Request],
    book: TruthBook,
    *,
    concurrency: int,
    on_progress: Callable[[TrafficReport], None] | None,
) -> TrafficReport:
    report = TrafficReport()
    waiting = iter(requests)
    limits = httpx.Limits(max_connections=concurrency)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:

        async def worker() -> None:
            for request in waiting:
                await _one(client, population, request, book, report)
                if on_progress:
                    on_progress(report)

        await asyncio.gather(*(worker() for _ in range(concurrency)))
    return report


async def _one(
    client: httpx.AsyncClient, population: Population, request: Request, book: TruthBook, report: TrafficReport
) -> None:
    answer = await client.post(
        "/v1/chat/completions",
        headers=request.headers,
        json={
            "model": MODEL,
            "messages": [message.model_dump() for message in request.ticket.messages],
            "max_tokens": MAX_TOKENS,
            "temperature": 0,
        },
    )
    if answer.status_code != 200:
        raise EngineError(f"The gateway answered {answer.status_code}: {answer.text[:300]}")
    body = answer.json()
    text, ticket = body["choices"][0]["message"]["content"], body["flywheel"]
    book.note(ticket["inference_id"], request.ticket)
    report.sent += 1
    report.right += book.right(ticket["inference_id"], text)
    report.inference_ids.append(ticket["inference_id"])
    for number, reaction in enumerate(population.react(request, text)):
        posted = await client.post(
            "/v1/feedback",
            json={
                "inference_id": ticket["inference_id"],
                "feedback_token": ticket["feedback_token"],
                "user": request.user.user_id,
                "kind": reaction.kind,
                "idempotency_key": str(number),
                **({"value": reaction.value} if reaction.value is not None else {}),
                **({"text": reaction.text} if reaction.text is not None else {}),
            },
        )
        posted.raise_for_status()
        report.reactions += 1
        if reaction.kind == "correction" and report.first_correction is None:
            report.first_correction = time.monotonic()
