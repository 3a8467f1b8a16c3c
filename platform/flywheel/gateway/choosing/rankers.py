"""What scores candidates. A ranker that cannot says why, and is done without: users do not wait for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from prometheus_client import Counter

from flywheel import telemetry
from flywheel.records import Message
from flywheel.statistics.policies import unusable

log = logging.getLogger(__name__)
FALLBACKS = Counter(telemetry.RANKER_FALLBACKS_TOTAL, "Choices made without scores", ["ranker", "reason"])


class RankerProblem(Exception):  # noqa: N818  (a ranker that has nothing to say is no failure of the program)
    """There are no scores; ``reason`` is a word for counters and rows."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail or reason)
        self.reason = reason


@dataclass(frozen=True)
class Candidate:
    """What is scored: an answer, or an item of a list.

    Attributes:
        text: the answer or the item's text; "" for an item without.
        logprob: of an answer, the mean log-probability of its tokens.
        given: of an item, the score that the product sent.
        id: of an item, the product's key.
        features: of an item, as sent.
    """

    text: str = ""
    logprob: float | None = None
    given: float | None = None
    id: str = ""
    features: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Scored(NamedTuple):
    """One score a candidate, in their order, and the version of what made them."""

    values: list[float]
    version: str | None


class Ranker(Protocol):
    """Scores candidates; higher is better."""

    name: str

    async def score(self, messages: Sequence[Message], candidates: Sequence[Candidate]) -> Scored:
        """The scores.

        Raises:
            RankerProblem: there are none.
        """
        ...


class NoRanker:
    """Has no opinion: every answer and every order is equally likely."""

    name = "none"

    async def score(self, messages: Sequence[Message], candidates: Sequence[Candidate]) -> Scored:
        """All alike."""
        del messages
        return Scored([0.0] * len(candidates), None)


class GivenScores:
    """The product's own scores; it may say which version of its ranker they are from."""

    name = "given"

    async def score(self, messages: Sequence[Message], candidates: Sequence[Candidate]) -> Scored:
        """The scores that came with the items."""
        del messages
        values = [candidate.given for candidate in candidates if candidate.given is not None]
        if len(values) < len(candidates):
            raise RankerProblem("no_scores")
        return Scored(values, None)


class Likelihood:
    """Mean log-probability of an answer's tokens under the model that gave it: needs no other model."""

    name = "likelihood"

    async def score(self, messages: Sequence[Message], candidates: Sequence[Candidate]) -> Scored:
        """What the engine said."""
        del messages
        values = [candidate.logprob for candidate in candidates if candidate.logprob is not None]
        if len(values) < len(candidates):
            raise RankerProblem("no_logprobs")
        return Scored(values, None)


class Opinion(NamedTuple):
    """What a choice can rest on: scores, or the reason why there are none."""

    scores: list[float] | None
    version: str | None
    fallback: str | None


class Desk:
    """Asks one ranker, in bounded time, and never fails."""

    def __init__(self, ranker: Ranker, timeout_s: float) -> None:
        self.ranker, self._timeout_s = ranker, timeout_s
        self._said: str | None = None

    async def opinion(self, messages: Sequence[Message], candidates: Sequence[Candidate]) -> Opinion:
        """Usable scores, or a counted reason."""
        reason = "failed"
        try:
            async with asyncio.timeout(self._timeout_s):
                scored = await self.ranker.score(messages, candidates)
            reason = unusable(scored.values, len(candidates))
            if reason is None:
                self._said = None
                return Opinion(scored.values, scored.version, None)
        except TimeoutError:
            reason = "timeout"
        except RankerProblem as problem:
            reason = problem.reason
            self._tell(reason, str(problem))
        except Exception as error:  # noqa: BLE001  (a bug in a ranker must not cost the user the answer that is there)
            self._tell(f"{reason}: {type(error).__name__}", repr(error))
        FALLBACKS.labels(self.ranker.name, reason).inc()
        return Opinion(None, None, reason)

    def _tell(self, what: str, detail: str) -> None:
        """Once until it changes: the counter says how often, and a ranker that is gone is gone for every request."""
        if what != self._said:
            self._said = what
            log.warning("the ranker '%s' gives no scores: %s", self.ranker.name, detail)
