"""Whether the live model got worse since it became live, from cases made of its own fresh traffic. Pure.

Fresh cases are taken in whole windows of so many people, each person counted once in a window, since the requests of
one person are alike. Each window is tested once against the accuracy at promotion (Fisher's exact test, one side),
and the k-th at the level alpha * 6 / (pi * k)^2. These levels sum to alpha: the chance of any false alarm while one
model is live is at most alpha, however long that is and however often somebody asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from flywheel.records import Record
from flywheel.statistics import spending
from flywheel.statistics.proportions import Count, p_higher


@dataclass(frozen=True)
class Fresh:
    """One case: whose request it was, and when a reviewer said what is right."""

    case_id: str
    subject: str
    labelled: datetime


class DriftTest(Record):
    """One window against the accuracy at promotion. Stored once, consumed by the cadence and ``flywheel status``."""

    version: str
    window: int
    at: datetime
    people: int
    wrong: int
    baseline_people: int
    baseline_wrong: int
    p_value: float
    level: float
    alarm: bool

    @property
    def text(self) -> str:
        """The numbers in a sentence."""
        now, then = Count(self.wrong, self.people), Count(self.baseline_wrong, self.baseline_people)
        return (
            f"{self.version} answers {1 - now.rate:.1%} of {now.n:,} fresh cases right, {1 - then.rate:.1%} of "
            f"{then.n:,} at its promotion (window {self.window}, p = {self.p_value:.2g}, alarm at {self.level:.2g})"
        )


def windows(cases: Sequence[Fresh], size: int) -> list[list[Fresh]]:
    """Whole windows of ``size`` people, in the order of labelling; who has several cases in one counts once."""
    found: list[list[Fresh]] = []
    people: dict[str, Fresh] = {}
    for case in sorted(cases, key=lambda case: (case.labelled, case.case_id)):
        people.setdefault(case.subject, case)
        if len(people) == size:
            found.append(list(people.values()))
            people = {}
    return found


def one_each(cases: Sequence[Fresh]) -> list[Fresh]:
    """Each person's first case."""
    people: dict[str, Fresh] = {}
    for case in sorted(cases, key=lambda case: (case.labelled, case.case_id)):
        people.setdefault(case.subject, case)
    return list(people.values())


def level(alpha: float, window: int) -> float:
    """The level of the test of one window, counted from 1."""
    return spending.level(alpha, window)


def window_test(version: str, window: int, fresh: Count, baseline: Count, *, alpha: float, at: datetime) -> DriftTest:
    """The test of one window. Counts are of wrong answers."""
    p, limit = p_higher(fresh, baseline), level(alpha, window)
    return DriftTest(
        version=version,
        window=window,
        at=at,
        people=fresh.n,
        wrong=fresh.hits,
        baseline_people=baseline.n,
        baseline_wrong=baseline.hits,
        p_value=p,
        level=limit,
        alarm=p <= limit,
    )
