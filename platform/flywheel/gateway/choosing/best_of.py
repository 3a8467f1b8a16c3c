"""Best-of-n: the engine draws n answers in one request, the policy serves one, the row keeps all.

Without scores the choice is uniform. The answers are exchangeable draws of one model, so that costs the user nothing
against serving the first, and every answer keeps a chance that off-policy evaluation can divide by.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from prometheus_client import Counter

from flywheel import telemetry
from flywheel.config import BestOfConfig
from flywheel.gateway.asked import Asked
from flywheel.gateway.choosing.policy import choosing, policy_of
from flywheel.gateway.choosing.rankers import Candidate, Desk, Ranker
from flywheel.gateway.engine_client import EngineClient
from flywheel.gateway.problems import ApiProblem
from flywheel.gateway.record import DONE, Answer, event
from flywheel.statistics.policies import UNIFORM, pick, probabilities
from flywheel.text.hashing import unit_interval

OFF = Counter(telemetry.BEST_OF_OFF_TOTAL, "Requests answered without best-of-n although it is on", ["reason"])
GREEDY_BELOW = 1e-5
"""Temperatures that vLLM takes for greedy; it then refuses n > 1, and all answers would be the same."""


class BestOf:
    """Draws the answers of one request and chooses; a request that it is not for goes straight to the engine."""

    def __init__(self, settings: BestOfConfig, ranker: Ranker, engines: EngineClient) -> None:
        self._settings, self._policy, self._engines = settings, policy_of(settings), engines
        self._desk = Desk(ranker, settings.timeout_s)

    def answers(self, asked: Asked, body: Mapping[str, Any]) -> int:
        """How many to draw for a request that asks the engine for ``body``; 1: it is off."""
        wanted = asked.best_of or self._settings.n
        reason = not_for(body) if wanted > 1 else None
        if reason is not None:
            OFF.labels(reason).inc()
        return 1 if reason is not None else wanted

    async def chat(self, asked: Asked, answer: Answer, version: str, timeout_s: float) -> dict[str, Any]:
        """A whole answer with one choice. What was drawn beside it is noted in ``answer``.

        Raises:
            ApiProblem: as the engine client does.
        """
        body = asked.engine_body(version, stream=False)
        count = self.answers(asked, body)
        if count == 1:
            return await self._engines.chat(version, body, timeout_s)
        body |= {"n": count, **({"logprobs": True} if self._desk.ranker.name == "likelihood" else {})}
        drawn = await self._engines.chat(version, body, timeout_s)
        choices: list[dict[str, Any]] = drawn.get("choices") or []
        if not all(isinstance(choice.get("message"), dict) for choice in choices) or not choices:
            raise ApiProblem(502, "the engine ended without an answer", "server_error", code="engine_error")
        served = await self._choose(asked, answer, choices)
        choice = {**choices[served], "index": 0}
        if not asked.params.get("logprobs"):
            choice.pop("logprobs", None)
        return {**drawn, "choices": [choice]}

    async def stream(self, asked: Asked, answer: Answer, version: str, timeout_s: float) -> AsyncIterator[str]:
        """Server-sent events. With best-of-n they begin when all answers are there: nobody can choose earlier."""
        body = asked.engine_body(version, stream=True)
        if self.answers(asked, body) > 1:
            for chunk in as_chunks(await self.chat(asked, answer, version, timeout_s)):
                yield event(chunk)
            yield DONE
            return
        async for block in self._engines.stream(version, body, timeout_s):
            yield block

    async def _choose(self, asked: Asked, answer: Answer, choices: Sequence[Mapping[str, Any]]) -> int:
        texts = [choice["message"].get("content") or "" for choice in choices]
        candidates = [Candidate(text, mean_logprob(choice)) for text, choice in zip(texts, choices, strict=True)]
        opinion = await self._desk.opinion(asked.messages, candidates)
        if opinion.scores is None:
            chances = probabilities([0.0] * len(choices), UNIFORM)
        else:
            chances = probabilities(opinion.scores, self._policy)
        served = pick(chances, unit_interval("best-of-n", asked.inference_id))
        answer.drawn = {
            "choices": texts,
            "choice_served": served,
            "choice_scores": opinion.scores or [],
            "choice_propensity": min(1.0, chances[served]),
            "choosing": choosing(self._settings, self._desk.ranker.name, opinion, instead="uniform"),
        }
        return served


def not_for(body: Mapping[str, Any]) -> str | None:
    """Why a request gets one draw only; None: it does not."""
    if "messages" not in body:
        return "no_chat"
    if body.get("n", 1) != 1:
        return "client_asked_n"
    if body.get("tools"):
        return "tools"  # a ranker reads text; which tool is called is not for it to decide
    temperature = body.get("temperature")
    if isinstance(temperature, int | float) and temperature < GREEDY_BELOW:
        return "greedy"
    return None


def mean_logprob(choice: Mapping[str, Any]) -> float | None:
    """Mean log-probability of the tokens of a choice; None where the engine reported none."""
    tokens = (choice.get("logprobs") or {}).get("content") or []
    values = [token["logprob"] for token in tokens if token.get("logprob") is not None]
    return math.fsum(values) / len(values) if values else None


def as_chunks(whole: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A whole ``chat.completion`` with one choice as the chunks that a stream of it would have."""
    (choice,) = whole["choices"]
    message = choice["message"]
    base = {
        "id": whole.get("id"), "object": "chat.completion.chunk", "created": whole.get("created"),
        "model": whole.get("model"),
    }  # fmt: skip
    first = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    text = {"index": 0, "delta": {"content": message.get("content") or ""}, "finish_reason": None}
    if choice.get("logprobs") is not None:
        text["logprobs"] = choice["logprobs"]
    last = {"index": 0, "delta": {}, "finish_reason": choice.get("finish_reason")}
    chunks = [{**base, "choices": [part]} for part in (first, text, last)]
    return [*chunks, {**base, "choices": [], "usage": whole["usage"]}] if whole.get("usage") else chunks
