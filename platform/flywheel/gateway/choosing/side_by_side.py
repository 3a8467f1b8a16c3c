"""Side by side: a user who may choose sees the live model's answer and a candidate's, in random order.

What the user prefers (feedback of kind comparison) is a word about the candidate that no automatic metric stands
behind. Only where the product says that it can show two answers, the user agreed to evaluation, and only for a share of
the users. Such a request is in no arm of a canary: who is shown two answers was decided by none of them. A candidate
that fails, is late or says the same is not shown, and nobody notices.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import Counter

from flywheel import telemetry
from flywheel.config import SideBySideConfig
from flywheel.gateway.asked import Asked
from flywheel.gateway.engine_client import EngineClient
from flywheel.gateway.problems import ApiProblem
from flywheel.gateway.protocol.collect import read_whole
from flywheel.gateway.record import Answer
from flywheel.gateway.route import Router
from flywheel.rollout.routing import Routing
from flywheel.text.answers import answer_key
from flywheel.text.hashing import unit_interval

log = logging.getLogger(__name__)
SHOWN = Counter(telemetry.SIDE_BY_SIDE_TOTAL, "Requests for two answers by what came of them", ["candidate", "outcome"])


class SideBySide:
    """Decides who is shown two answers, and of which candidate."""

    def __init__(self, settings: SideBySideConfig, engines: EngineClient, router: Router) -> None:
        self._settings, self._engines, self._router = settings, engines, router

    def for_request(self, asked: Asked, routing: Routing) -> Two | None:
        """What asks for both answers of this request; None: its user is shown one, like any other."""
        if not asked.side_by_side or not self._settings.share or not suits(asked):
            return None
        if unit_interval("side-by-side", asked.tenant, asked.user) >= self._settings.share:
            return None
        if asked.model not in {"", routing.flow}:  # it named a version, and gets that one
            return None
        candidate = self._candidate(routing, asked.tenant)
        return Two(candidate, self._engines, self._router, self._settings.timeout_s) if candidate else None

    def _candidate(self, routing: Routing, tenant: str) -> str | None:
        """Whoever is nearest to being live, is for this tenant and answers now."""
        takes = [one.version for one in reversed(routing.canaries) if one.takes(tenant)]
        canaries = [version for version in takes if self._router.usable(version)]
        shadows = [one.version for one in reversed(routing.shadows) if self._answers(one.version)]
        return next(iter([*canaries, *shadows]), None)

    def _answers(self, version: str) -> bool:
        return self._router.is_ready(version) and self._router.breaker.closed(version)


@dataclass(frozen=True)
class Two:
    """Asks two engines the same."""

    candidate: str
    engines: EngineClient
    router: Router
    patience_s: float
    """The candidate may take so much longer than the live model."""

    async def chat(self, asked: Asked, answer: Answer, version: str, timeout_s: float) -> dict[str, Any]:
        """Both answers as two choices, or the live model's alone. Which is whose is noted in ``answer``.

        Raises:
            ApiProblem: the live model gave none, as the engine client says it.
        """
        theirs = asyncio.create_task(self._theirs(asked, timeout_s))
        try:
            mine = await self.engines.chat(version, asked.engine_body(version, stream=False), timeout_s)
            other = await self._in_time(theirs)
        finally:
            theirs.cancel()
        if other is None or _same(mine, other):
            SHOWN.labels(self.candidate, "same" if other else "no_answer").inc()
            return mine
        SHOWN.labels(self.candidate, "shown").inc()
        live_first = unit_interval("side-by-side-order", asked.inference_id) < 0.5
        both = [(version, mine), (self.candidate, other)]
        shown = both if live_first else both[::-1]
        answer.drawn = {
            "choice_served": 0 if live_first else 1,
            "choice_versions": [name for name, _ in shown],
        }
        choices = [{**body["choices"][0], "index": place} for place, (_, body) in enumerate(shown)]
        return {**mine, "choices": choices, **_usage(mine, other)}

    async def _theirs(self, asked: Asked, timeout_s: float) -> dict[str, Any] | None:
        """The candidate's answer; None where it gave none that can be shown."""
        name = f"{asked.inference_id}-beside"
        try:
            body = asked.engine_body(self.candidate, stream=False, request_id=name)
            said = await self.engines.chat(self.candidate, body, timeout_s)
            texts, calls, _ = read_whole(said)
        except ApiProblem as problem:
            if problem.status >= 500:
                self.router.breaker.failed(self.candidate)
            return None
        except Exception:  # whatever it is, it is not the user's
            log.exception("the candidate %s gave no answer that can be read", self.candidate)
            self.router.breaker.failed(self.candidate)
            return None
        self.router.breaker.succeeded(self.candidate)
        return said if texts and texts[0].strip() and not calls else None

    async def _in_time(self, theirs: asyncio.Task[dict[str, Any] | None]) -> dict[str, Any] | None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.patience_s):
                return await theirs
        self.router.breaker.failed(self.candidate)
        return None


def suits(asked: Asked) -> bool:
    """Whether a user can be asked to choose: plain text, whole, one answer asked for, and consent to evaluation."""
    plain = asked.api == "chat" and not asked.stream and not asked.params.get("tools")
    return plain and "evaluation" in asked.consent and asked.params.get("n", 1) == 1 and (asked.best_of or 1) == 1


def _same(mine: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    left, calls, _ = read_whole(dict(mine))
    return bool(calls) or answer_key(left[0]) == answer_key(read_whole(dict(other))[0][0])


def _usage(mine: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """As of ``n=2``: the prompt once, both answers."""
    usage, more = mine.get("usage"), other.get("usage")
    if not usage or not more:
        return {}
    completion = (usage.get("completion_tokens") or 0) + (more.get("completion_tokens") or 0)
    total = (usage.get("prompt_tokens") or 0) + completion
    return {"usage": {**usage, "completion_tokens": completion, "total_tokens": total}}
