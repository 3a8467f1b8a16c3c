"""From counters to sights: a pair of guards for each canary, one for the live model after its promotion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from flywheel.config import RolloutConfig
from flywheel.records import Reason
from flywheel.rollout.live.result import LiveVerdict
from flywheel.rollout.machine.book import Book
from flywheel.rollout.machine.compare import CanaryGuards, WatchGuards
from flywheel.rollout.machine.sight import Sight
from flywheel.rollout.machine.state import Candidate, RolloutState
from flywheel.rollout.machine.tally import Tally, comparison

MOST_BEFORE: Final = 20_000
"""Requests that say how a live model does; of more, half are forgotten."""


class Look:
    """What is seen of everybody. Fed with reports through ``book``.

    Args:
        policy: the rollout's settings.
        before: the counters that a model had as the live one, as far as they were kept.
    """

    def __init__(self, policy: RolloutConfig, before: Callable[[str], Tally | None]) -> None:
        self._policy, self._before = policy, before
        self.book = Book()
        self.rates: dict[str, Tally] = {}
        self._canaries: dict[tuple[str, str], CanaryGuards] = {}
        self._watch: tuple[tuple[str, str], WatchGuards] | None = None
        self._stages: dict[str, tuple[Candidate, datetime, int]] = {}

    @property
    def comparing(self) -> bool:
        """Whether anybody is compared with the live model, or it with the one before."""
        return bool(self._canaries) or self._watch is not None

    def count(self, state: RolloutState, now: datetime) -> None:
        """Hand what was told since the last time to the guards."""
        told, live = self.book.since_last(), state.live.version
        self._rates(told, live)
        shares = {(one.version, live): one.share for one in state.candidates if one.stage == "canary"}
        self._canaries = {pair: self._canaries.get(pair) or CanaryGuards(self._policy.guards) for pair in shares}
        for (canary, _), guards in self._canaries.items():
            about = comparison(canary, shares[canary, live])
            guards.add(told.get((about, canary)) or Tally(), told.get((about, live)) or Tally(), now.timestamp())
        watch = self._watching(state, now)
        if watch is not None:
            watch.add(told.get(("", live)) or Tally(), now.timestamp())

    def sights(
        self, state: RolloutState, verdicts: Sequence[LiveVerdict], obstacles: Mapping[str, str], now: datetime
    ) -> dict[str, Sight]:
        """Everybody, by version."""
        found = {one.version: self._candidate(state, one, verdicts, obstacles, now) for one in state.candidates}
        live = state.live.version
        guards = self._watch[1].reasons() if self._watch is not None and self._watch[0][0] == live else []
        quality = quality_of(verdicts, live, state.live.previous) if state.live.promoted else None
        found[live] = Sight(
            version=live, reported=self.book.reported, guards=guards, quality=quality, ready=self._ready(live, now)
        )
        return found

    def _candidate(
        self,
        state: RolloutState,
        one: Candidate,
        verdicts: Sequence[LiveVerdict],
        obstacles: Mapping[str, str],
        now: datetime,
    ) -> Sight:
        live = state.live.version
        guards = self._canaries.get((one.version, live))
        watched, requests = self._stage(one, guards.total.requests if guards else 0, now)
        reasons: list[Reason] = guards.reasons() if guards else []
        return Sight(
            version=one.version,
            reported=self.book.reported,
            watched=watched,
            requests=requests,
            guards=reasons,
            ready=self._ready(one.version, now),
            obstacle=obstacles.get(one.version),
            quality=quality_of(verdicts, one.version, live),
            comparisons=[word for word in verdicts if (word.candidate, word.live) == (one.version, live)],
        )

    def _stage(self, one: Candidate, total: int, now: datetime) -> tuple[datetime, int]:
        """Since when this stage is seen, and the requests in it."""
        known = self._stages.get(one.version)
        if known is None or (known[0].stage, known[0].share, known[0].since) != (one.stage, one.share, one.since):
            self._stages[one.version] = known = (one, now, total)
        return known[1], max(0, total - known[2])

    def _ready(self, version: str, now: datetime) -> bool | None:
        return self.book.ready(version, now, timedelta(seconds=self._policy.step.silence_s))

    def _watching(self, state: RolloutState, now: datetime) -> WatchGuards | None:
        live = state.live
        young = now - live.since < timedelta(minutes=self._policy.step.watch_minutes)
        if not (live.promoted and live.previous and young):
            self._watch = None
            return None
        pair = (live.version, live.previous)
        if self._watch is None or self._watch[0] != pair:
            before = self.rates.get(live.previous) or self._before(live.previous) or Tally()
            self._watch = (pair, WatchGuards(self._policy.guards, before))
        return self._watch[1]

    def _rates(self, told: Mapping[tuple[str, str], Tally], live: str) -> None:
        """How the live model does, for the day it is the one before."""
        more = told.get(("", live))
        if more is None or not more.requests:
            return
        if live not in self.rates:
            self.rates[live] = self._before(live) or Tally()
        kept = self.rates[live]
        kept.add(more)
        if kept.requests > MOST_BEFORE:
            self.rates[live] = _halved(kept)


def quality_of(verdicts: Sequence[LiveVerdict], candidate: str, live: str | None) -> LiveVerdict | None:
    """The word of the comparison on a candidate against this live model.

    Worse in any place is worse. Else what its users showed counts where that is clear, then the shadow, where the same
    requests were answered by both, then what people chose side by side: too few to wait for.
    """
    found = {one.source: one for one in verdicts if (one.candidate, one.live) == (candidate, live)}
    ordered = [found[source] for source in ("canary", "shadow", "side_by_side") if source in found]
    worse = [one for one in ordered if one.state == "worse"]
    clear = [one for one in ordered if one.state in {"better", "no_worse"}]
    return next(iter([*worse, *clear, *ordered]), None)


def _halved(tally: Tally) -> Tally:
    return Tally(
        requests=tally.requests // 2,
        error=tally.error // 2,
        empty=tally.empty // 2,
        checked=tally.checked // 2,
        found={name: count // 2 for name, count in tally.found.items()},
        times=[count // 2 for count in tally.times],
    )
