"""Verdicts that follow traffic: reads what is new in the lake, keeps counts, says what they mean now.

The state is a function of the rows and the time, so a restart goes on where it was, and where the stored state is
gone, of another configuration, or holds somebody who was erased, all rows are counted anew with the same result. One
process at a time for a flow: whoever holds the rollout's lease.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from flywheel.config import FlywheelConfig
from flywheel.lake.schemas import from_arrow
from flywheel.lake.tables import Lake
from flywheel.records import Feedback, Inference, Message, ShadowPair, utcnow
from flywheel.rollout import routing as truth
from flywheel.rollout.gate.evidence import Lineage
from flywheel.rollout.live import news, stored
from flywheel.rollout.live.allocate import strengths
from flywheel.rollout.live.asked import shadow_in, was_mirrored
from flywheel.rollout.live.canaried import REACTIONS, CanaryBook
from flywheel.rollout.live.chosen import CHOICES, ChosenBook
from flywheel.rollout.live.instrument import Instrument, Mirrored, Voters, measure, voters
from flywheel.rollout.live.news import News, Versions
from flywheel.rollout.live.period import Followed, Period, budgeted, followed, period, shares
from flywheel.rollout.live.result import LiveVerdict
from flywheel.rollout.live.shadowed import ShadowBook, lacks_answer, worst
from flywheel.rollout.live.verdict import deciding, judged
from flywheel.rollout.routing import Routing
from flywheel.statistics.bradley_terry import Ranking

_REMEMBERED: Final = 20_000
"""Questions kept in memory for pairs that are still to come; others are read again."""

Book = ShadowBook | CanaryBook | ChosenBook
_PEOPLE: Final = {"canary": REACTIONS, "side_by_side": CHOICES}
"""What stands for people in each place where they decide."""


class Watch:
    """Follows every shadow and canary of one flow."""

    def __init__(
        self,
        lake: Lake,
        config: FlywheelConfig,
        instruments: Sequence[Instrument],
        *,
        lineage: Callable[[str], Lineage | None] = lambda _: None,
        withdrawn: Callable[[], Collection[str]] = frozenset,
        clock: Callable[[], datetime] = utcnow,
    ) -> None:
        """See what is there with the first ``update``.

        Args:
            lake: the tables, and where the state is kept.
            config: the flow; ``rollout.live``, and limits of ``rollout.gate``.
            instruments: what measures pairs; see ``workflow.live``.
            lineage: what made a candidate, None where nobody knows.
            withdrawn: subjects whose rows may not be evaluated any more.
            clock: the time now.
        """
        self._lake, self._config, self._instruments = lake, config, list(instruments)
        self._lineage, self._withdrawn, self._clock = lineage, withdrawn, clock
        self._identity = stored.identity(config, self._instruments)
        self._routings: dict[int, Routing] = {}
        self._now: Routing | None = None
        self._versions: Versions | None = None
        """Of the tables, up to which they are counted; None: nothing is counted yet."""
        self._books: dict[Followed, Book] = {}
        self._periods: dict[Followed, Period] = {}
        self._votes: dict[str, Voters] = {}
        self._messages: OrderedDict[str, list[Message]] = OrderedDict()
        self._restored = False

    def update(self) -> list[LiveVerdict]:
        """Count what is new, and give the verdict about everybody who is compared now.

        A call that fails counts nothing for good: the next one reads the same rows again, and what was told twice
        counts once.
        """
        self._restore()
        before = set(self._books)
        new = self._new()  # ahead of the routing: so the routing of every row that was read is known
        self._look()
        self._follow()
        units = [book.tally.units for book in self._books.values()]
        if new is not None:
            self._take(new)
            self._versions = new.versions
        elif self._books:
            self._begin_anew()
        self._settle(self._clock().timestamp())
        settled = units != [book.tally.units for book in self._books.values()]
        if settled or before != set(self._books) or (new is not None and new.any):
            self._save()
        return [self._verdict(who, book) for who, book in self._books.items()]

    def strengths(self) -> Ranking | None:
        """Shadows and the live model on one scale, by the instrument that gives each interval; None before any."""
        signs: dict[str, tuple[int, int, int]] = {}
        for who, book in self._books.items():
            first = deciding(self._instruments, self._voters(who.candidate)) if who.source == "shadow" else ""
            if first in book.tally.overall:
                signs[who.candidate] = book.tally.overall[first].signs()
        return strengths(signs, self._now.live.version) if signs and self._now else None

    def _new(self) -> News | None:
        """Rows since the last time; None: everything must be read."""
        if self._versions is None or not self._books:
            return None
        return news.since(self._lake, self._config.flow, self._versions)

    def _begin_anew(self) -> None:
        """Count everything since the first of those who are followed began."""
        self._books = {who: self._book(who) for who in self._books}
        now = self._clock()
        days = news.days((since.began for since in self._periods.values()), now)
        for day, rows in news.everything(self._lake, self._config.flow, days):
            self._take(rows)
            begin = datetime.fromisoformat(day).replace(tzinfo=UTC)  # all until then was read
            self._settle(min(now, begin).timestamp())
            self._versions = rows.versions if day == days[-1] else None

    def _settle(self, now: float) -> None:
        for book in self._books.values():
            book.settle(now)

    def _look(self) -> None:
        seen = self._now.n if self._now else 0
        self._now = truth.newer(self._lake.store, self._config.flow, seen) or self._now

    def _routing(self, n: int) -> Routing:
        if n not in self._routings:
            self._routings[n] = truth.read(self._lake.store, self._config.flow, n)
        return self._routings[n]

    def _follow(self) -> None:
        """Begin with who is new, and forget who is compared no longer."""
        now, kept, since = self._now, self._books, self._periods
        self._books = {who: kept.get(who) or self._book(who) for who in self._followed()}
        if now is not None:
            self._periods = {who: since.get(who) or period(who, now, self._routing) for who in self._books}

    def _followed(self) -> list[Followed]:
        return followed(self._now, side_by_side=self._config.gateway.side_by_side.share > 0)

    def _book(self, who: Followed) -> Book:
        live, gate = self._config.rollout.live, self._config.rollout.gate
        if who.source == "canary":
            patience_s = self._config.gateway.canary_timeout_s
            return CanaryBook(live, gate, candidate=who.candidate, live=who.live, patience_s=patience_s)
        if who.source == "side_by_side":
            return ChosenBook(live, gate, candidate=who.candidate, live=who.live)
        return ShadowBook(live, gate, budgeted=self._budgeted(who))

    def _budgeted(self, who: Followed) -> bool:
        return self._now is not None and budgeted(self._now, who.candidate, self._config.gateway)

    def _take(self, new: News) -> None:
        if not new.any:
            return
        gone = self._withdrawn()
        for row in self._answered(new.rows["inferences"]):
            for who, book in self._books.items() if row.subject not in gone else ():
                self._asked(row, who, book)
        self._pairs([pair for pair in from_arrow(new.rows["shadow_pairs"], ShadowPair) if pair.subject not in gone])
        people = [book for book in self._books.values() if not isinstance(book, ShadowBook)]
        for said in from_arrow(new.rows["feedback"], Feedback) if people else []:
            for book in people:
                book.reacted(said)

    def _answered(self, rows: pa.Table) -> Iterable[Inference]:
        """Those that were answered under a routing that somebody is followed since."""
        first = min((since.first for since in self._periods.values()), default=None)
        if first is None:
            return []
        return from_arrow(rows.filter(pc.field("policy_version") >= first), Inference)

    def _asked(self, row: Inference, who: Followed, book: Book) -> None:
        if row.policy_version < self._periods[who].first:
            return
        routing = self._routing(row.policy_version)
        if isinstance(book, CanaryBook):
            share, live_share = shares(routing, who.candidate)
            book.answered(row, share=share, live_share=live_share)
            return
        if isinstance(book, ChosenBook):
            book.answered(row)
            return
        shadow = shadow_in(routing, who.candidate)
        if shadow is not None and row.model_version == who.live and was_mirrored(row, shadow):
            self._messages[row.inference_id] = row.messages
            book.asked(row)

    def _pairs(self, pairs: Sequence[ShadowPair]) -> None:
        of: dict[Followed, list[ShadowPair]] = defaultdict(list)
        for pair in pairs:
            who = Followed("shadow", pair.candidate, pair.live_version)
            if who in self._books and self._in_period(pair, who):
                of[who].append(pair)
        for who, own in of.items():
            book = self._books[who]
            assert isinstance(book, ShadowBook), "pairs are of shadows"
            self._score(book, own)
        while len(self._messages) > _REMEMBERED:
            self._messages.popitem(last=False)

    def _score(self, book: ShadowBook, pairs: Sequence[ShadowPair]) -> None:
        """Measure what can still change something; the rest is only noted, as its session goes on."""
        counting = {pair.inference_id for pair in pairs if book.counts_still(pair) and not lacks_answer(pair)}
        asked = self._questions(counting)
        answered = [pair for pair in pairs if pair.inference_id in counting]
        scores = measure(self._instruments, [Mirrored(pair, asked.get(pair.inference_id, [])) for pair in answered])
        found = {pair.inference_id: score for pair, score in zip(answered, scores, strict=True)}
        failed = worst(self._instruments)
        for pair in pairs:
            book.brought(pair, failed if lacks_answer(pair) else found.get(pair.inference_id, {}))

    def _questions(self, ids: Iterable[str]) -> dict[str, list[Message]]:
        """What was asked: mostly still in memory."""
        wanted = set(ids)
        known = {one: self._messages[one] for one in wanted & self._messages.keys()}
        return known | news.questions(self._lake, self._config.flow, wanted - known.keys())

    def _in_period(self, pair: ShadowPair, who: Followed) -> bool:
        since = self._periods[who]
        return pair.ts >= since.began if pair.policy_version is None else pair.policy_version >= since.first

    def _verdict(self, who: Followed, book: Book) -> LiveVerdict:
        people = _PEOPLE.get(who.source)
        return judged(
            book.tally,
            [people] if people else self._instruments,
            Voters([people.name], {}) if people else self._voters(who.candidate),
            self._config.rollout.gate,
            flow=self._config.flow,
            candidate=who.candidate,
            live=who.live,
            budgeted=people is None and self._budgeted(who),
        )

    def _voters(self, candidate: str) -> Voters:
        if candidate not in self._votes:
            deciders = self._config.rollout.live.deciders
            self._votes[candidate] = voters(self._instruments, deciders, self._lineage(candidate))
        return self._votes[candidate]

    def _restore(self) -> None:
        """Once: go on from the stored state, where it is of this configuration."""
        if self._restored:
            return
        state = stored.load(self._lake.store, self._config.flow, self._identity)
        self._restored = True
        if state is None or not news.follows(self._lake, state["versions"]):
            return
        self._look()
        self._versions = state["versions"]
        for who in self._followed():
            if (kept := state["books"].get(who.name)) is not None:
                book = self._books[who] = self._book(who)
                book.restore(kept["counts"])
                self._periods[who] = Period(kept["first"], datetime.fromisoformat(kept["began"]))

    def _save(self) -> None:
        books = {
            who.name: {
                "first": self._periods[who].first,
                "began": self._periods[who].began.isoformat(),
                "counts": book.dump(),
            }
            for who, book in self._books.items()
        }
        state: dict[str, Any] = {"identity": self._identity, "versions": self._versions, "books": books}
        stored.save(self._lake.store, self._config.flow, state)
