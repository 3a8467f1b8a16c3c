"""Counts what came of requests, by the version that was drawn: the other half of ``rollout.machine.tally``.

A request counts for the model that was drawn for it, whoever answered in the end. Requests that named a version were
not drawn and count for nobody. Counting is a few additions; answers are read later, in a thread, and when more come
than can be read some are not: which ones does not depend on what they say.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Iterator
from typing import Any, Final, Protocol

from flywheel.config import PrivacyConfig
from flywheel.gateway.asked import Asked
from flywheel.gateway.assign import Assignment
from flywheel.gateway.outcomes.reading import Reading, found_in
from flywheel.gateway.record import Answer
from flywheel.rollout.machine.tally import Tally, bucket_of, comparison
from flywheel.rollout.routing import Routing

log = logging.getLogger(__name__)

WAITING: Final = 256
"""Answers that wait to be read."""
READ_S: Final = 0.5

Pair = tuple[str, str]


class Outcomes(Protocol):
    """Told of the end of each request."""

    def answered(self, asked: Asked, answer: Answer, assignment: Assignment) -> None:
        """It got a whole answer of the model that was drawn."""
        ...

    def failed(self, assignment: Assignment) -> None:
        """The model that was drawn gave none, or broke off."""
        ...

    def left(self, answer: Answer, assignment: Assignment) -> None:
        """The client went away."""
        ...


class NoOutcomes:
    """Where no rollout is configured."""

    def answered(self, asked: Asked, answer: Answer, assignment: Assignment) -> None:
        """Nothing."""

    def failed(self, assignment: Assignment) -> None:
        """Nothing."""

    def left(self, answer: Answer, assignment: Assignment) -> None:
        """Nothing."""


class Counting:
    """Counters of one replica. All but ``run`` is called on its event loop, costs microseconds and never raises."""

    def __init__(self, privacy: PrivacyConfig, canary_timeout_s: float) -> None:
        self._privacy, self._patience_ms = privacy, canary_timeout_s * 1e3
        self._tallies: dict[Pair, Tally] = {}
        self._unread: deque[tuple[list[Pair], Reading]] = deque(maxlen=WAITING)
        self.reading = True
        """Whether answers are read; the controller says so while it compares."""

    def answered(self, asked: Asked, answer: Answer, assignment: Assignment) -> None:
        """See ``Outcomes``."""
        text, pairs = _served(answer), self._in_time(answer, assignment)
        for tally in self._of(pairs):
            tally.requests += 1
            tally.times[bucket_of(answer.latency_ms or 0.0)] += 1
            tally.empty += not text.strip() and not any(answer.tool_calls)
        if pairs and text and self.reading:
            self._unread.append((pairs, Reading(asked.messages, text)))

    def failed(self, assignment: Assignment) -> None:
        """See ``Outcomes``."""
        self._broken(_pairs(assignment))

    def left(self, answer: Answer, assignment: Assignment) -> None:
        """See ``Outcomes``. Somebody who waited too long is a slow request."""
        for tally in self._of(self._in_time(answer, assignment)):
            tally.requests += 1
            tally.times[bucket_of(answer.elapsed_ms())] += 1

    def told(self) -> list[dict[str, Any]]:
        """All totals, for a report."""
        return [
            {"about": about, "version": version, **tally.told()} for (about, version), tally in self._tallies.items()
        ]

    def keep(self, routing: Routing) -> None:
        """Forget comparisons with canaries that are none any more or have another share, and models that left."""
        versions = {variant.version for variant in routing.variants()}
        abouts = {"", *(comparison(canary.version, canary.share) for canary in routing.canaries)}
        for about, version in list(self._tallies):
            if version not in versions or about not in abouts:
                del self._tallies[about, version]

    async def run(self) -> None:
        """Read what waits, until cancelled."""
        while True:
            await asyncio.sleep(READ_S)
            with contextlib.suppress(Exception):  # a text that cannot be read is one that was not
                await self.read()

    async def read(self) -> None:
        """Read what waits now."""
        batch = [self._unread.popleft() for _ in range(len(self._unread))]
        if not batch:
            return
        found = await asyncio.to_thread(lambda: [found_in(reading, self._privacy) for _, reading in batch])
        for (pairs, _), kinds in zip(batch, found, strict=True):
            for tally in self._of(pairs):
                tally.checked += 1
                for kind in kinds:
                    tally.found[kind] += 1

    def _in_time(self, answer: Answer, assignment: Assignment) -> list[Pair]:
        """The comparisons in which this answer came in time; in the others it is counted as an error.

        A canary that lets its user wait so long is given up. The live model beside it is held to the same, else an
        outage of both would be the canary's alone.
        """
        pairs = list(_pairs(assignment))
        if answer.waited_ms() <= self._patience_ms:
            return pairs
        self._broken(pair for pair in pairs if pair[0])
        return [pair for pair in pairs if not pair[0]]

    def _broken(self, pairs: Iterator[Pair]) -> None:
        for tally in self._of(pairs):
            tally.requests += 1
            tally.error += 1

    def _of(self, pairs: list[Pair] | Iterator[Pair]) -> Iterator[Tally]:
        for pair in pairs:
            if pair not in self._tallies:
                self._tallies[pair] = Tally()
            yield self._tallies[pair]


def _pairs(assignment: Assignment) -> Iterator[Pair]:
    """The comparisons that a request is part of.

    One that was drawn for a canary, with that canary; one of the live model, with every canary for its tenant: also of
    those that could not be drawn just now, because a failure's arm is judged by who answered how much.
    """
    if assignment.how in {"pinned", "fallback", "side_by_side"}:
        return
    version, live = assignment.variant.version, assignment.routing.live.version
    if version == live:
        yield "", live
    for canary in assignment.routing.canaries:
        if version in {live, canary.version} and canary.takes(assignment.tenant):
            yield comparison(canary.version, canary.share), version


def _served(answer: Answer) -> str:
    served = answer.drawn.get("choice_served", 0)
    choices = answer.choices
    return choices[served] if 0 <= served < len(choices) else ""
