"""Ranked lists as the gateway records them, made up quickly; for tests of what learns from them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from flywheel.config import RankingConfig
from flywheel.gateway.choosing.rankers import Opinion
from flywheel.gateway.rank import columns, draw
from flywheel.gateway.rank_request import read_rank
from flywheel.records import Feedback, Inference, RankedItem, ShadowScores

SETTINGS = RankingConfig(temperature=0.7, epsilon=0.2)
BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
LOOKS = np.array([1.0, 0.6, 0.4, 0.3])


def row_id(number: int) -> str:
    """A UUIDv7 of the day of ``BEGIN``."""
    moment = int((BEGIN + timedelta(seconds=number)).timestamp() * 1000)
    return str(uuid.UUID(int=(moment << 80) | (7 << 76) | (2 << 62) | number))


def ranked(
    number: int, items: Sequence[dict[str, Any]], *, scores: Sequence[float] | None = None, shadow: Any = None,
    user: str | None = None, settings: RankingConfig = SETTINGS, consent: Sequence[Any] = ("training", "evaluation"),
    **more: Any,
) -> Inference:  # fmt: skip
    """One list; without scores it is as it was sent."""
    body = {"items": list(items), "user": user or f"u{number}", **more}
    wanted = read_rank(body, {}, tenant="t", settings=settings)
    opinion = Opinion(list(scores), None, None) if scores is not None else Opinion(None, None, "no_scores")
    drawn = draw(wanted, opinion)
    beside = [] if shadow is None else [ShadowScores(version="triage-r0001", **shadow)]
    return Inference(
        inference_id=row_id(number), flow="triage", ts=BEGIN + timedelta(seconds=number), subject=wanted.asked.user,
        consent=list(consent), model_version="v1", messages=wanted.asked.messages, shadow_scores=beside,
        **columns(wanted, "given", opinion, drawn),
    )  # fmt: skip


def reaction(
    row: Inference, items: Sequence[dict[str, Any]], kind: Any = "click", value: float | None = None
) -> Feedback:
    """What a product reports of some items; their rank is filled in."""
    ranks = {item.id: item.rank or 0 for item in row.ranking}
    told = [RankedItem(rank=ranks.get(item["id"], 1), **item) for item in items]
    return Feedback(
        feedback_id=str(uuid.uuid4()), inference_id=row.inference_id, flow=row.flow, ts=row.ts, subject=row.subject,
        kind=kind, value=value, items=told, source="implicit",
    )  # fmt: skip


def shop(
    lists: int, *, seed: int = 0, shadow: Callable[[dict[str, Any]], float] | None = None, people: int = 60
) -> tuple[list[Inference], list[Feedback]]:
    """A shop whose flashy items are opened, and hidden afterwards; good ones are opened less, and liked.

    Places are looked at as ``LOOKS`` says. The product's own scores love what is flashy.
    """
    rng = np.random.default_rng(seed)
    rows, reactions = [], []
    for number in range(lists):
        good, flash = rng.normal(size=(2, 6)).round(3)
        items = [
            {"id": f"i{seed}-{number}-{at}", "features": {"good": float(good[at]), "flash": float(flash[at])}}
            for at in range(6)
        ]
        told = {"scores": [shadow(item["features"]) for item in items]} if shadow else None
        row = ranked(
            seed * 100_000 + number, items, scores=flash.tolist(), shadow=told, user=f"u{number % people}", k=4,
            idempotency_key=f"r{number}",
        )  # fmt: skip
        shown = sorted((item for item in row.ranking if item.rank), key=lambda item: item.rank or 0)
        reactions.append(reaction(row, [{"id": item.id, "shown_ms": 500.0} for item in shown], "dwell", 2_000))
        for place, item in enumerate(shown):
            opened = rng.random() < LOOKS[place] / (1 + np.exp(0.5 - 1.5 * item.features["flash"]))
            if opened:
                felt = item.features["good"] - item.features["flash"]
                done = ["click"] + (["like"] if rng.random() < 1 / (1 + np.exp(1 - 2 * felt)) else [])
                done += ["hide"] if rng.random() < 1 / (1 + np.exp(3 + 2 * felt)) else []
                reactions += [reaction(row, [{"id": item.id, "action": name}]) for name in done]
        rows.append(row)
    return rows, reactions
