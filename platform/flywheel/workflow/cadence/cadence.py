"""When a turn is due. Pure: what is known goes in, a verdict with its reasons comes out.

Five reasons make a turn due: enough new good examples, a drop in quality, failures of a new kind, a live model that
answers fresh labelled cases worse than those it was promoted on (``drift.py``), the calendar.
Each rests on what the last finished turn had not seen, so that one observation never causes two turns. Whatever
they say, nothing is due while a turn runs, right after one, or before a turn could train on anything. A turn that
was begun and not finished is due at once: its finished steps do not run again. One that waits for a person's word
alone is due when that was given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from flywheel.config import CALENDAR, CadenceConfig
from flywheel.statistics.proportions import Count, p_higher
from flywheel.workflow.cadence.drift import DriftTest


@dataclass(frozen=True)
class Rating:
    """What somebody said about one answer of the live model, and when the lake learnt of it."""

    seen: datetime
    failed: bool


@dataclass(frozen=True)
class Cluster:
    """Failures about something that was no topic before the last turn: its words, how many, of how many people."""

    phrase: str
    failures: int
    people: int


@dataclass(frozen=True)
class CadenceFacts:
    """All that decides whether a turn is due.

    Attributes:
        live: the live model's version.
        running: who runs a turn now, and since when.
        unfinished: the id of a turn that was begun and not finished.
        waits: what that turn waits for that only a person can give; running it again would find the same.
        turn_ended: end of the last finished turn.
        turn_saw: when that turn looked at the tables; what the lake learnt later is new.
        fruitless: finished turns in a row, up to the last one, that promoted nothing.
        good: answers that somebody liked or corrected and consented to training on.
        good_new: those of them that are new.
        least: fewer good ones than this and a turn would stop before training.
        ratings: of answers by the live model since it became live, in the order the lake learnt of them.
        clusters: new kinds of failures, the clearest first.
        drift: tests of the live model on fresh labelled cases, oldest first.
        goodhart: alarms that a proxy rose while the audit fell, and that nobody settled.
    """

    live: str | None = None
    running: str | None = None
    unfinished: str | None = None
    waits: str | None = None
    turn_ended: datetime | None = None
    turn_saw: datetime | None = None
    fruitless: int = 0
    good: int = 0
    good_new: int = 0
    least: int = 1
    ratings: tuple[Rating, ...] = ()
    clusters: tuple[Cluster, ...] = ()
    drift: tuple[DriftTest, ...] = ()
    goodhart: tuple[str, ...] = ()


@dataclass(frozen=True)
class Why:
    """One rule's name and what it says, with the numbers."""

    name: str
    text: str


@dataclass(frozen=True)
class Due:
    """The verdict. ``reasons`` speak for a turn now; ``waiting`` says what is missing, or stands in the way."""

    due: bool
    reasons: tuple[Why, ...]
    waiting: tuple[Why, ...]


Rule = Callable[[CadenceFacts, CadenceConfig, datetime], tuple[bool, str]]


def due(facts: CadenceFacts, policy: CadenceConfig, now: datetime) -> Due:
    """Whether a turn should run now."""
    blocks = _blocks(facts, policy, now)
    if facts.unfinished:
        reason = Why("unfinished turn", f"{facts.unfinished} was begun and is not finished")
        return Due(not blocks, (reason,), tuple(blocks))
    said = [(name, *rule(facts, policy, now)) for name, rule in RULES.items()]
    reasons = tuple(Why(name, text) for name, holds, text in said if holds)
    waiting = (Why(name, text) for name, holds, text in said if not holds)
    return Due(bool(reasons) and not blocks, reasons, (*blocks, *waiting))


def pause(policy: CadenceConfig, fruitless: int) -> timedelta:
    """How long after a turn the next may start; doubles with each turn in a row that promoted nothing."""
    doubled = policy.min_gap_h * 2.0 ** min(fruitless, 30)
    return timedelta(hours=max(policy.min_gap_h, min(doubled, policy.max_gap_h)))


def compared(ratings: tuple[Rating, ...], window: int) -> tuple[list[Rating], list[Rating]] | None:
    """The live model's first ``window`` ratings and its last whole window after them; None before there are two.

    Windows follow each other without overlap, so each is tested once, however often somebody asks.
    """
    windows = len(ratings) // window
    if windows < 2:
        return None
    return list(ratings[:window]), list(ratings[(windows - 1) * window : windows * window])


def _blocks(facts: CadenceFacts, policy: CadenceConfig, now: datetime) -> list[Why]:
    if facts.live is None:
        return [Why("live model", "the flow has none yet; start with `flywheel up --model NAME_OR_FOLDER`")]
    if facts.running:
        return [Why("running", f"a turn is run by {facts.running}")]
    if facts.unfinished:
        return [Why("waits for a person", f"{facts.unfinished}: {facts.waits}")] if facts.waits else []
    blocks = []
    if facts.turn_ended is not None:
        until = facts.turn_ended + pause(policy, facts.fruitless)
        if now < until:
            fruitless = f", {facts.fruitless} in a row promoted nothing" if facts.fruitless else ""
            blocks.append(Why("pause", f"until {_at(until)} after the last turn{fruitless}"))
    if facts.goodhart:
        blocks.append(Why("goodhart alarm", f"{facts.goodhart[0]}; look into it, then: flywheel goodhart --settle WHY"))
    if facts.good < facts.least:
        blocks.append(Why("too few", f"{facts.good:,} good examples, a turn needs {facts.least:,} at the least"))
    return blocks


def _examples(facts: CadenceFacts, policy: CadenceConfig, _now: datetime) -> tuple[bool, str]:
    new, wanted = facts.good_new, policy.new_examples
    return new >= wanted, f"{new:,} new good examples, {wanted:,} wanted"


def _quality(facts: CadenceFacts, policy: CadenceConfig, _now: datetime) -> tuple[bool, str]:
    pair = compared(facts.ratings, policy.quality_window)
    if pair is None:
        wanted = 2 * policy.quality_window
        return False, f"{len(facts.ratings):,} of {wanted:,} ratings of the live model for a comparison"
    earlier, later = (Count(sum(row.failed for row in rows), len(rows)) for rows in pair)
    p = p_higher(later, earlier)
    text = f"failures went from {earlier.rate:.1%} to {later.rate:.1%} in windows of {later.n:,} ratings (p = {p:.2g})"
    if facts.turn_saw is not None and pair[1][-1].seen <= facts.turn_saw:
        return False, f"{text}, which the last turn saw"
    return p <= policy.quality_alpha, text


def _cluster(facts: CadenceFacts, _policy: CadenceConfig, _now: datetime) -> tuple[bool, str]:
    if not facts.clusters:
        return False, "no failures of a new kind"
    said = (f"{one.failures:,} about '{one.phrase}' from {one.people:,} people" for one in facts.clusters)
    return True, f"failures of a new kind: {', '.join(said)}"


def _calendar(facts: CadenceFacts, policy: CadenceConfig, now: datetime) -> tuple[bool, str]:
    if policy.every == "none":
        return False, "none"
    if facts.turn_ended is None:
        return facts.good_new > 0, f"{policy.every}, and no turn yet"
    at = next_time(policy.every, facts.turn_ended)
    if now < at:
        return False, f"{policy.every}, next {_at(at)}"
    if not facts.good_new:
        return False, f"{policy.every}, since {_at(at)}, but there is no new good example"
    return True, f"{policy.every}, since {_at(at)}"


def _drift(facts: CadenceFacts, _policy: CadenceConfig, _now: datetime) -> tuple[bool, str]:
    if not facts.drift:
        return False, "the live model was not tested on fresh labelled cases yet"
    alarms = [test for test in facts.drift if test.alarm]
    last = (alarms or facts.drift)[-1]
    if alarms and facts.turn_saw is not None and last.at <= facts.turn_saw:
        return False, f"{last.text}, which the last turn saw"
    return bool(alarms), last.text


def next_time(every: str, after: datetime) -> datetime:
    """The first time of a calendar entry (``CadenceConfig.every``, not none) behind ``after``, in UTC."""
    from cronsim import CronSim

    return next(CronSim(CALENDAR.get(every, every), after.astimezone(UTC)))


RULES: dict[str, Rule] = {
    "new examples": _examples,
    "quality drop": _quality,
    "new failures": _cluster,
    "live drift": _drift,
    "calendar": _calendar,
}


def _at(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
