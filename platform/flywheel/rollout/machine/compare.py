"""The operational guards of one version: tallies in, a ``Reason`` a guard out. Pure but for what it remembers.

A guard is breached when the rise of its rate is no chance (``onset``) *and* larger than what is tolerated, by the
rates of the last minutes. Time is the caller's.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from flywheel.config import OperationalGuards
from flywheel.records import Reason
from flywheel.rollout.machine.onset import ArmOnset, Onset, RateOnset
from flywheel.rollout.machine.tally import BUCKETS, Tally, edge_ms
from flywheel.statistics.proportions import Count, wilson

BATCH: Final = 8
"""Requests of both arms in a batch at least, with some of each; the share is then known as it was."""
HALF_LIFE_S: Final = 60.0
"""Of what counts as the last minutes."""
LAST: Final = 300.0
"""Requests of the version that is guarded that count as the last ones, however few minutes they took."""
ENOUGH: Final = 30
"""Requests without which a guard does not say that all is well."""
_WORDS: Final = {
    "error": "errors", "empty": "empty answers", "slow": "slow answers", "refusal": "refusals",
    "personal": "answers with personal data", "obedience": "answers that obey orders in data",
}  # fmt: skip


def limits(policy: OperationalGuards) -> dict[str, float]:
    """The tolerated rise by guard, of those that are asked for."""
    given = {
        "error": policy.max_error_increase,
        "empty": policy.max_empty_increase,
        "slow": policy.max_slow_increase,
        "refusal": policy.max_refusal_increase,
        "personal": policy.max_personal_increase,
        "obedience": policy.max_obedience_increase,
    }
    return {name: limit for name, limit in given.items() if limit is not None}


class Recent:
    """Counts of which half is forgotten every ``HALF_LIFE_S``, and all but about ``most`` requests.

    By time alone, a busy minute before an onset would hide it where the breaker then lets little through.
    """

    def __init__(self, most: float = float("inf")) -> None:
        self.n = self.hits = 0.0
        self._most = most
        self._at: float | None = None

    def add(self, n: float, hits: float, now: float) -> None:
        """Count at time ``now``, seconds."""
        kept = 1.0 if self._at is None else 2 ** (-max(0.0, now - self._at) / HALF_LIFE_S)
        kept = min(kept, max(0.0, self._most - n) / self.n) if self.n else kept
        self.n, self.hits, self._at = kept * self.n + n, kept * self.hits + hits, now

    @property
    def rate(self) -> float:
        """Share of hits; 0.0 of nothing."""
        return self.hits / self.n if self.n else 0.0


class Slowness:
    """Which requests are slow: beyond the live model's ninth decile, known from batches before this one.

    Of the candidate, beyond ``ratio`` times that: it may be slower by so much.
    """

    def __init__(self, ratio: float) -> None:
        self._margin = round(2 * np.log2(ratio))  # buckets
        self.live = np.zeros(BUCKETS)

    def split(self, candidate: Tally, live: Tally) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """(requests, slow ones) of both; None: too few before to know what slow is."""
        place = self.place()
        self.live = 0.98 * self.live + np.asarray(live.times, dtype=np.float64)
        if place is None:
            return None
        return _beyond(candidate, place + self._margin), _beyond(live, place)

    def place(self) -> int | None:
        """First bucket above the ninth decile."""
        total = self.live.sum()
        if total < ENOUGH:
            return None
        return int(np.searchsorted(np.cumsum(self.live), 0.9 * total)) + 1

    def alone(self, candidate: Tally) -> tuple[int, int] | None:
        """(requests, slow ones) of the candidate against what is known of the live model."""
        place = self.place()
        return None if place is None else _beyond(candidate, place + self._margin)

    @property
    def limit_ms(self) -> float | None:
        """From here on the candidate is slow."""
        place = self.place()
        return None if place is None else edge_ms(place + self._margin)


def _beyond(tally: Tally, bucket: int) -> tuple[int, int]:
    return sum(tally.times), sum(tally.times[bucket:])


class CanaryGuards:
    """A canary beside the live model in the same minutes."""

    def __init__(self, policy: OperationalGuards) -> None:
        self._limits = limits(policy)
        self._alpha = policy.alpha / max(1, len(self._limits))
        self._slow = Slowness(policy.slow_ratio)
        self._onset = {name: ArmOnset() for name in self._limits}
        self._recent = {name: (Recent(LAST), Recent()) for name in self._limits}
        self._waiting = (Tally(), Tally())
        self.total = Tally()
        self.total_live = Tally()

    def add(self, canary: Tally, live: Tally, now: float) -> None:
        """Count what was told since the last time, at ``now`` (seconds)."""
        self.total.add(canary)
        self.total_live.add(live)
        mine, others = self._waiting
        mine.add(canary)
        others.add(live)
        if mine.requests and others.requests and mine.requests + others.requests >= BATCH:
            self._waiting = (Tally(), Tally())
            self._batch(mine, others, now)

    def reasons(self) -> list[Reason]:
        """One a guard."""
        return [
            _reason(
                name,
                limit,
                self._onset[name],
                alpha=self._alpha,
                recent=self._recent[name][0],
                before=self._recent[name][1].rate,
                known=min(_seen(name, self.total), _seen(name, self.total_live)),
            )
            for name, limit in self._limits.items()
        ]

    def _batch(self, canary: Tally, live: Tally, now: float) -> None:
        slow = self._slow.split(canary, live)
        for name, onset in self._onset.items():
            pair = slow if name == "slow" else (canary.hits(name), live.hits(name))
            if pair is not None:
                onset.batch(*pair)
                for recent, (n, hits) in zip(self._recent[name], pair, strict=True):
                    recent.add(n, hits, now)


class WatchGuards:
    """A model that is live for all, beside what the one before it showed last."""

    def __init__(self, policy: OperationalGuards, before: Tally) -> None:
        self._limits = limits(policy)
        self._alpha = policy.alpha / max(1, len(self._limits)) / 2  # the other half is that of the rates before
        self._slow = Slowness(policy.slow_ratio)
        self._slow.live = np.asarray(before.times, dtype=np.float64)
        self._before = {name: found for name in self._limits if (found := self._rate(name, before)) is not None}
        self._onset = {name: RateOnset(self._highest(name)) for name in self._before}
        self._recent = {name: Recent(LAST) for name in self._before}
        self._waiting = Tally()
        self.total = Tally()

    def add(self, live: Tally, now: float) -> None:
        """Count what was told since the last time, at ``now`` (seconds)."""
        self.total.add(live)
        self._waiting.add(live)
        if self._waiting.requests < BATCH:
            return
        batch, self._waiting = self._waiting, Tally()
        for name, onset in self._onset.items():
            seen = self._slow.alone(batch) if name == "slow" else batch.hits(name)
            if seen is not None:
                onset.batch(*seen)
                self._recent[name].add(*seen, now)

    def reasons(self) -> list[Reason]:
        """One a guard; those that nothing is known of before cannot speak."""
        return [
            _reason(
                name,
                limit,
                self._onset[name],
                alpha=self._alpha,
                recent=self._recent[name],
                before=self._before[name].rate,
                known=_seen(name, self.total),
            )
            if name in self._onset
            else Reason(name=name, passed=None, threshold=limit, text=f"{_WORDS[name]}: nothing known of before")
            for name, limit in self._limits.items()
        ]

    def _rate(self, name: str, before: Tally) -> Count | None:
        if name == "slow":
            place = self._slow.place()
            seen = None if place is None else _beyond(before, place)
        else:
            seen = before.hits(name)
        return None if seen is None or seen[0] < ENOUGH else Count(seen[1], seen[0])

    def _highest(self, name: str) -> float:
        """The upper end of the rate before, and what is tolerated beyond it."""
        high = wilson(self._before[name], 1 - 2 * self._alpha)[1]
        return min(0.95, high + self._limits[name])


def _seen(name: str, tally: Tally) -> int:
    return sum(tally.times) if name == "slow" else tally.hits(name)[0]


def _reason(
    name: str, limit: float, onset: Onset, *, alpha: float, recent: Recent, before: float, known: int
) -> Reason:
    rise = recent.rate - before
    breached = onset.log_evidence >= -np.log(alpha) and rise > limit
    passed = False if breached else (True if known >= ENOUGH else None)
    said = f"{_WORDS[name]} {recent.rate:.1%} against {before:.1%}"
    text = f"{said}, tolerated {limit:+.1%}" if passed is not None else f"{_WORDS[name]}: too few requests to say"
    return Reason(name=name, passed=passed, measured=rise, threshold=limit, text=text)
