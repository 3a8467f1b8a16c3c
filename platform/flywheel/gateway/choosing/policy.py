"""The configured policy as the one that draws, and as a row says it."""

from __future__ import annotations

from flywheel.config import ChoosingConfig
from flywheel.gateway.choosing.rankers import Opinion
from flywheel.records import Choosing
from flywheel.statistics.policies import Policy

GIVEN = "given"
"""Policy of a list that is shown as it was sent."""


def policy_of(settings: ChoosingConfig) -> Policy:
    """Temperature and epsilon by name: greedy is temperature 0, uniform is epsilon 1."""
    if settings.policy == "uniform":
        return Policy(settings.temperature, 1.0)
    return Policy(settings.temperature if settings.policy == "softmax" else 0.0, settings.epsilon)


def choosing(settings: ChoosingConfig, ranker: str, opinion: Opinion, *, instead: str) -> Choosing:
    """What the row says. ``instead`` is the policy that served where there were no scores."""
    if opinion.scores is None:
        epsilon = 1.0 if instead == "uniform" else 0.0
        return Choosing(policy=instead, temperature=0.0, epsilon=epsilon, ranker=ranker, fallback=opinion.fallback)
    policy = policy_of(settings)
    return Choosing(
        policy=settings.policy, temperature=policy.temperature, epsilon=policy.epsilon,
        ranker=ranker, ranker_version=opinion.version,
    )  # fmt: skip
