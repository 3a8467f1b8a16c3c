"""What one candidate's shadow may use: what the routing says for it, else what the configuration says for all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from flywheel.config import GatewayConfig
from flywheel.rollout.routing import Shadow

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """Of one candidate at one gateway replica."""

    concurrency: int
    queue: int
    timeout_s: float
    requests_per_minute: float | None
    """None: unbounded. This replica's part, as is the next."""
    tokens_per_minute: float | None
    priority: int
    answer_bytes: int


def limits_of(shadow: Shadow, config: GatewayConfig) -> Limits:
    """The limits of ``shadow`` at one of ``config.num_replicas`` replicas, which share its budgets evenly."""
    return Limits(
        concurrency=_first(shadow.max_concurrency, config.shadow_concurrency),
        queue=_first(shadow.queue, config.shadow_queue),
        timeout_s=_first(shadow.timeout_s, config.shadow_timeout_s),
        requests_per_minute=_part(shadow.requests_per_minute, config.shadow_requests_per_minute, config.num_replicas),
        tokens_per_minute=_part(shadow.tokens_per_minute, config.shadow_tokens_per_minute, config.num_replicas),
        priority=_first(shadow.priority, config.shadow_priority),
        answer_bytes=config.shadow_answer_bytes,
    )


def _first(own: T | None, common: T) -> T:
    return common if own is None else own


def _part(own: float | None, common: float | None, replicas: int) -> float | None:
    whole = _first(own, common)
    return None if whole is None else whole / replicas
