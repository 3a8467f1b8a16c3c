"""Several candidates at once: who gets how much of the shadow, and who is how strong. Pure.

Shadow answers cost engine time, so they go where they decide something: to the leader and to whoever may still be
better (LUCB; Kalyanakrishnan, Tewari, Auer and Stone, "PAC subset selection in stochastic multi-armed bandits", ICML
2012), with candidates that cannot be best any more left out (successive elimination; Even-Dar, Mannor and Mansour, JMLR
7 (2006)). Intervals hold at every look, and whether a request is mirrored to a candidate is a hash of its id: so shares
may follow the verdicts without a bias. The best one is kept with a chance of 1 - alpha for each other candidate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from flywheel.rollout.live.result import LiveVerdict
from flywheel.rollout.routing import Routing, next_state
from flywheel.statistics.bradley_terry import Ranking, Vote, rank

LEAST: Final = 0.02
"""Share of somebody who is still in the race and not among the two that decide it."""
WARM_UP: Final = 30
"""Units each before intervals say anything: until then all get the same."""
_TICK: Final = 1e-6
_WORTH: Final = 0.1
"""Of a share: smaller changes are not worth a routing of their own."""


def shadow_shares(verdicts: Sequence[LiveVerdict], *, budget: float = 1.0, least: float = LEAST) -> dict[str, float]:
    """Shares for ``Shadow.share``, by candidate; who is not in it is out of the race and needs no shadow.

    Args:
        verdicts: on shadows of one live model.
        budget: answers of candidates a live request, of all together.
        least: share of those who are neither the leader nor its challenger.

    Raises:
        ValueError: the budget is not positive, or a candidate is named twice.
    """
    names = [one.candidate for one in verdicts]
    if budget <= 0 or len(set(names)) < len(names):
        raise ValueError(f"shares need a positive budget and one verdict a candidate, not {budget} and {names}")
    racing = in_the_race(verdicts)
    if not racing:
        return {}
    if len(racing) == 1 or any(one.units < WARM_UP or one.mean is None for one in racing):
        return _even([one.candidate for one in racing], budget)
    leader, challenger = _two(racing)
    others = [one.candidate for one in racing if one.candidate not in {leader, challenger}]
    small = min(least, budget / len(racing))
    rest = budget - small * len(others)
    return {**_even([leader, challenger], rest), **{name: _share(small) for name in others}}


def in_the_race(verdicts: Sequence[LiveVerdict]) -> list[LiveVerdict]:
    """Those that may be the best: not worse than the live model, nor than any other candidate, for certain."""
    alive = [one for one in verdicts if one.state != "worse"]
    floor = max((one.low for one in alive if one.low is not None), default=-1.0)
    return [one for one in alive if one.high is None or one.high >= floor]


def best(verdicts: Sequence[LiveVerdict]) -> LiveVerdict | None:
    """The one that is left in the race, once it is decided; None before, and where nobody is left."""
    racing = in_the_race(verdicts)
    return racing[0] if len(racing) == 1 and racing[0].low is not None else None


def strengths(signs: Mapping[str, tuple[int, int, int]], live: str) -> Ranking:
    """All candidates and the live model on one scale (Bradley-Terry with ties), in log-odds.

    Args:
        signs: candidate -> units in which it did worse than, as well as and better than the live model.
        live: version.

    Raises:
        ValueError: nobody was compared.
    """
    said = ("second", "tie", "first")
    votes = [
        vote
        for name, counts in signs.items()
        for preferred, count in zip(said, counts, strict=True)
        for vote in [Vote(name, live, preferred)] * count
    ]
    return rank(votes, order_effects=False)


def with_shares(routing: Routing, shares: Mapping[str, float], *, actor: str, reason: str) -> Routing | None:
    """The next state with these shares, all in one; None where no share would change by a tenth of itself.

    Shadows without a share end; those that are not shadows (any more) are passed over.
    """
    kept = [
        shadow.model_copy(update={"share": shares[shadow.version]})
        for shadow in routing.shadows
        if shadow.version in shares
    ]
    before = {shadow.version: shadow.share for shadow in routing.shadows}
    moved = [abs(shadow.share - before[shadow.version]) > _WORTH * before[shadow.version] for shadow in kept]
    if len(kept) == len(routing.shadows) and not any(moved):
        return None
    return next_state(routing, actor, reason, None, shadows=kept)


def _two(racing: Sequence[LiveVerdict]) -> tuple[str, str]:
    """The leader by its mean, and of the others the one whose interval reaches highest."""
    leader = max(racing, key=lambda one: (one.mean or 0.0, one.candidate))
    others = [one for one in racing if one is not leader]
    return leader.candidate, max(others, key=lambda one: (one.high or 0.0, one.candidate)).candidate


def _even(names: Sequence[str], budget: float) -> dict[str, float]:
    return {name: _share(budget / len(names)) for name in names}


def _share(share: float) -> float:
    """Positive, and all requests at the most."""
    return min(1.0, max(_TICK, round(share, 6)))
