"""Can a cluster's nodes hold what is asked of them? Pure arithmetic, so that nothing waits for what never comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Resources = Mapping[str, float]
"""Ray's logical resources by name: CPU, GPU, ..."""

_EPSILON = 1e-6  # Ray counts in ten-thousandths


@dataclass(frozen=True)
class Need:
    """Some equal pieces of work that must run at the same time, each on one node."""

    what: str
    """Subject of the sentence that says it does not fit, e.g. ``training workers``."""
    count: int
    each: Resources
    advice: str
    """Which settings to lower."""


def room(each: Resources, nodes: Sequence[Resources]) -> int:
    """How many pieces of size ``each`` the nodes hold; exact, because all pieces are equal."""
    wanted = {name: amount for name, amount in each.items() if amount > 0}
    if not wanted:
        return 10**9
    return sum(
        min(int((node.get(name, 0.0) + _EPSILON) // amount) for name, amount in wanted.items()) for node in nodes
    )


def unplaceable(needs: Sequence[Need], nodes: Sequence[Resources]) -> list[str]:
    """One sentence for each need that the nodes, were they idle, could not hold."""
    return [_sentence(need, nodes) for need in needs if room(need.each, nodes) < need.count]


def _sentence(need: Need, nodes: Sequence[Resources]) -> str:
    each = ", ".join(f"{amount:g} {name}" for name, amount in need.each.items() if amount > 0)
    kinds = [name for name, amount in need.each.items() if amount > 0]
    there = "; ".join(", ".join(f"{node.get(name, 0.0):g} {name}" for name in kinds) for node in nodes) or "no node"
    return (
        f"{need.what}: {need.count} with {each} each do not fit the cluster, which holds "
        f"{room(need.each, nodes)} (nodes: {there}); lower {need.advice}"
    )
