"""The sample-ratio alarm: were keys split between the live model and the canaries as the routing asked?

What counts is the draw, by key. A request that fell back to the live model counts for the canary it was drawn to: that
the canary failed is no mismatch, and leaving such rows out would make one. Requests that named a version, or found one
model only, were not drawn. A mismatch says that rows were lost, repeated or assigned in a way that depends on the
variant, and that no comparison of the variants can be trusted until somebody knows why.

Counts are kept apart for each (live model, eligible canaries, their slots): within such a group a key has one place and
so one arm, and its keys are independent draws from one split. A key in two arms of a group is a mismatch by itself.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from typing import Any, NamedTuple

import pyarrow.compute as pc
from pydantic import Field

from flywheel.lake.tables import Lake
from flywheel.records import Record, utcnow
from flywheel.rollout import routing as truth
from flywheel.rollout.routing import Routing
from flywheel.rollout.slots import TICKS, width
from flywheel.statistics.mismatch import ratio_evidence

ALPHA = 0.001
"""Chance that a correct split ever raises an alarm, over all groups and looks of one set of canaries."""
CONCENTRATIONS = (100.0, 1_000.0, 10_000.0)
"""Priors of the test, in keys: gross mismatches show within hundreds of keys, small ones within many thousands. The
mean of Bayes factors against one hypothesis is one too."""
COLUMNS = ["policy_version", "model_version", "eligible_variants", "assignment_key_hash", "assignment", "fallback"]

Group = tuple[str, tuple[tuple[str, tuple[tuple[int, int], ...]], ...]]


class Drawn(NamedTuple):
    """One draw, as its row tells it."""

    policy: int
    key: str
    arm: str
    eligible: frozenset[str]


class Arm(Record):
    """One variant of a split."""

    version: str
    asked: float = Field(description="share of the keys that it should have")
    keys: int


class SplitCheck(Record):
    """One group of draws against the split that was asked for. Produced here, consumed by people and the rollout."""

    policies: tuple[int, int] = Field(description="first and last routing whose draws are in it")
    arms: list[Arm] = Field(description="the live model first")
    moved: int = Field(description="keys that were seen in two arms; they are in no count")
    evidence: float = Field(description="Bayes factor against the asked split")
    threshold: float = Field(description="from here on it is an alarm")
    alarm: bool

    @property
    def text(self) -> str:
        """The check in one line."""
        total = sum(arm.keys for arm in self.arms)
        arms = ", ".join(f"{arm.version} {arm.keys / max(total, 1):.2%} (asked {arm.asked:.2%})" for arm in self.arms)
        moved = f"; {self.moved:,} keys in two arms" if self.moved else ""
        return f"{total:,} keys: {arms}{moved}; evidence {self.evidence:.3g}, alarm from {self.threshold:,.0f}"


def drawn(row: Mapping[str, Any]) -> Drawn | None:
    """The draw behind a row of ``inferences``; None where there was none."""
    key, fallback = row["assignment_key_hash"], row["fallback"]
    how, arm, eligible = row["assignment"], row["model_version"], row["eligible_variants"]
    if how == "fallback" and fallback:
        arm, eligible = fallback["assigned"], fallback["eligible"]
    elif how != "random":
        return None
    if not key or len(eligible) < 2:
        return None
    return Drawn(row["policy_version"], key, arm, frozenset(eligible))


def split_checks(draws: Iterable[Drawn], policies: Mapping[int, Routing], *, alpha: float = ALPHA) -> list[SplitCheck]:
    """Every group's check, in the order of their first routing. Valid at every look (see ``ratio_evidence``).

    The k-th group is tested at 6 alpha / (pi k)^2, which sums to alpha over any number of groups.

    Args:
        draws: of one epoch; those of a routing that is not in ``policies`` are passed over.
        policies: routings by number.
        alpha: chance of any false alarm.
    """
    arms: dict[Group, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    seen: dict[Group, list[int]] = defaultdict(list)
    for draw in draws:
        policy = policies.get(draw.policy)
        if policy is None:
            continue
        group = _group(policy, draw.eligible)
        arms[group][draw.key].add(draw.arm)
        seen[group].append(draw.policy)
    ordered = sorted(arms, key=lambda group: (min(seen[group]), group))
    return [
        _check(group, arms[group], (min(seen[group]), max(seen[group])), (math.pi * k) ** 2 / (6 * alpha))
        for k, group in enumerate(ordered, start=1)
    ]


def check_split(lake: Lake, routing: Routing) -> list[SplitCheck]:
    """The checks of the canaries that are there now, from the rows ingested so far. Reads their days of traffic."""
    if routing.epoch is None:
        return []
    policies = {n: truth.read(lake.store, routing.flow, n) for n in range(routing.epoch, routing.n)}
    policies[routing.n] = routing
    days = _days(policies[routing.epoch].ts.date(), utcnow().date())
    rows = lake.read("inferences", flow=routing.flow, dates=days, columns=COLUMNS)
    rows = rows.filter(pc.greater_equal(rows["policy_version"], routing.epoch))
    draws = (drawn(row) for row in rows.to_pylist())
    return split_checks((draw for draw in draws if draw is not None), policies)


def _group(policy: Routing, eligible: frozenset[str]) -> Group:
    return policy.live.version, tuple(
        sorted((canary.version, tuple(canary.slots)) for canary in policy.canaries if canary.version in eligible)
    )


def _check(group: Group, keys: Mapping[str, set[str]], policies: tuple[int, int], threshold: float) -> SplitCheck:
    live, canaries = group
    shares = {version: width(places) / TICKS for version, places in canaries}
    asked = {live: 1 - sum(shares.values()), **shares}
    counts = Counter(next(iter(arms)) for arms in keys.values() if len(arms) == 1)
    unasked = sum(count for arm, count in counts.items() if arm not in asked)  # a row about another routing
    moved = sum(len(arms) > 1 for arms in keys.values()) + unasked
    seen, wanted = [counts[version] for version in asked], list(asked.values())
    factors = [float(ratio_evidence(seen, wanted, concentration=prior)) for prior in CONCENTRATIONS]
    evidence = sum(factors) / len(factors)
    return SplitCheck(
        policies=policies,
        arms=[Arm(version=version, asked=share, keys=counts[version]) for version, share in asked.items()],
        moved=moved,
        evidence=evidence,
        threshold=threshold,
        alarm=moved > 0 or evidence >= threshold,
    )


def _days(first: date, last: date) -> list[str]:
    """A day before the first too: an id's time fixes the partition, and clocks differ."""
    begin = first - timedelta(days=1)
    return [(begin + timedelta(days=n)).isoformat() for n in range((last - begin).days + 2)]
