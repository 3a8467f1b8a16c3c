"""POST /v1/rank: score the product's items, draw an order, make it durable, acknowledge.

The row is an inference with items instead of answers: same consent, same outbox, and reactions join it by the same
token. No model answers it, so it is drawn for no canary: its version is the live variant's. Without scores the list
stays as it was sent, for certain: shuffling a product's list for nothing would cost its users, unlike a choice among
answers of one model.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from flywheel.config import RankingConfig
from flywheel.gateway import metrics
from flywheel.gateway.chat import Answering
from flywheel.gateway.choosing.engagement import EngagementRankers
from flywheel.gateway.choosing.policy import GIVEN, choosing, policy_of
from flywheel.gateway.choosing.rankers import Candidate, Desk, Opinion, Ranker
from flywheel.gateway.rank_request import ItemSent, RankAsked
from flywheel.gateway.record import Answer
from flywheel.gateway.route import Assignment
from flywheel.records import Inference, RankedCandidate, ShadowScores
from flywheel.statistics.plackett_luce import RankedDraw, draw_ranking, given_ranking
from flywheel.text.hashing import stable_hash


class Ranking:
    """Ranks for one gateway replica."""

    def __init__(self, settings: RankingConfig, ranker: Ranker, learnt: EngagementRankers | None = None) -> None:
        self._settings, self._learnt = settings, learnt
        self._desk = Desk(ranker, settings.timeout_s)
        self._learnt_desk = Desk(learnt, settings.timeout_s) if learnt else self._desk

    async def rank(self, service: Answering, wanted: RankAsked, assignment: Assignment) -> dict[str, Any]:
        """The body of the 200; the row is durable.

        Raises:
            ApiProblem: the list is not durable.
        """
        answer, asked = Answer(), wanted.asked
        candidates = [
            Candidate(item.text or "", given=item.score, id=item.id, features=item.features) for item in wanted.items
        ]
        desk = self._learnt_desk if self._learnt is not None and self._learnt.serving else self._desk
        opinion, beside = await asyncio.gather(
            desk.opinion(asked.messages, candidates), self._beside(wanted, candidates)
        )
        drawn = draw(wanted, opinion)
        answer.ended("stop")
        answer.drawn = {**columns(wanted, desk.ranker.name, opinion, drawn), "shadow_scores": beside}
        row = service.row(asked, answer, assignment)
        await service.store(row)
        metrics.REQUESTS.labels("ok").inc()
        return response(row, drawn, service.tokens.issue(asked.tenant, asked.inference_id, asked.session_id))

    async def _beside(self, wanted: RankAsked, candidates: Sequence[Candidate]) -> list[ShadowScores]:
        """Rankers in the shadow, where the person agreed to evaluation: like any shadow."""
        if self._learnt is None or "evaluation" not in wanted.asked.consent:
            return []
        return await self._learnt.shadows(wanted.asked.messages, candidates, self._settings.shadow_timeout_s)


def columns(wanted: RankAsked, ranker: str, opinion: Opinion, drawn: RankedDraw) -> dict[str, Any]:
    """What the row says of the list: its items, chances, and by what it was drawn."""
    said = choosing(wanted.settings, ranker, opinion, instead=GIVEN)
    if said.ranker == "given" and said.fallback is None:
        said = said.model_copy(update={"ranker_version": wanted.ranker_version})
    key = wanted.idempotency_key
    return {
        "ranking": listed(wanted.items, opinion.scores, drawn),
        "list_log_propensity": drawn.prefix_log_propensities[-1],
        "choosing": said.model_copy(update={"request_key_hash": f"{_seed(wanted):016x}" if key else None}),
    }


def draw(wanted: RankAsked, opinion: Opinion) -> RankedDraw:
    """The list. A request and its retries (one ``idempotency_key``) draw alike; without a key each draws anew."""
    if opinion.scores is None:
        return given_ranking(len(wanted.items), shown=wanted.places)
    rng = random.Random(_seed(wanted))
    return draw_ranking(opinion.scores, policy_of(wanted.settings), shown=wanted.places, rng=rng)


def listed(items: Sequence[ItemSent], scores: Sequence[float] | None, drawn: RankedDraw) -> list[RankedCandidate]:
    """Every item as the row keeps it, in the order in which they were sent."""
    places = {index: place for place, index in enumerate(drawn.order)}

    def at(index: int, values: Sequence[float | None]) -> float | None:
        return values[places[index]] if index in places else None

    return [
        RankedCandidate(
            id=item.id,
            text=item.text,
            features=dict(item.features),
            score=scores[index] if scores is not None else item.score,
            rank=places[index] + 1 if index in places else None,
            prefix_log_propensity=at(index, drawn.prefix_log_propensities),
            position_propensity=at(index, drawn.position_propensities),
        )
        for index, item in enumerate(items)
    ]


def response(row: Inference, drawn: RankedDraw, token: str) -> dict[str, Any]:
    """What the product gets: the shown items from the top, and how to report what people did with them."""
    assert row.choosing is not None, "a list is always chosen by a policy"
    shown = [row.ranking[index] for index in drawn.order]
    return {
        "object": "ranking",
        "id": f"rank-{row.inference_id}",
        "model": row.model_version,
        "items": [{"id": item.id, "rank": item.rank, "score": item.score} for item in shown],
        "policy": row.choosing.model_dump(exclude_none=True, exclude={"request_key_hash"}),
        "flywheel": {
            "inference_id": row.inference_id, "feedback_token": token, "model_version": row.model_version,
        },
    }  # fmt: skip


def _seed(wanted: RankAsked) -> int:
    asked = wanted.asked
    if wanted.idempotency_key is None:
        return stable_hash("rank", asked.inference_id)
    return stable_hash("rank", asked.tenant, asked.user, wanted.idempotency_key)
