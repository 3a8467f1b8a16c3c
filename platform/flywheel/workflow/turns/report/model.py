"""What a report says, as values: the JSON form is this, the page draws it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from flywheel.quality.goodhart.tables import Examination
from flywheel.records import Reason, Record, Verdict
from flywheel.rollout.machine.story import Moment
from flywheel.workflow.sweeps.result import SweepResult

Role = Literal["decides", "guards", "reported"]


class SuiteRow(Record):
    """One suite on both models. Shares of cases; the interval is of the difference."""

    suite: str
    role: Role = Field(description="decides: the primary suite; guards: must not lose; reported: decides nothing")
    n: int
    live: float
    candidate: float
    difference: float
    interval: tuple[float, float] | None = Field(description="None: too few people to tell")
    threshold: float | None = Field(default=None, description="all of the interval must lie above it")
    fixed: int
    newly_broken: int


class SliceRow(Record):
    """One group of a suite's cases, in shares right."""

    suite: str
    name: str
    n: int
    live: float
    candidate: float


class Changed(Record):
    """One case that only one of the two models answered right."""

    case_id: str
    suite: str
    group: str | None
    prompt: str = Field(description="the conversation up to the answer")
    expected: str
    live: str
    candidate: str
    live_error: str | None = None
    candidate_error: str | None = None
    detail: str | None = Field(default=None, description="why the wrong answer did not pass")


class Overlap(Record):
    """Data that judges and also made the candidate."""

    maker: str
    ids: list[str]
    sources: list[str] = Field(description="manifests that name the ids, as kind/id")


class Ancestor(Record):
    """One manifest behind the candidate."""

    ref: str
    parents: list[str]
    created: datetime
    note: str = ""


class GateReport(Record):
    """One turn's verdict and all that it rests on. Texts are as models and users wrote them: escape them."""

    flow: str
    turn_id: str
    candidate: str
    live: str
    verdict: Verdict
    headline: str = Field(description="the verdict in a few words")
    sentence: str = Field(description="why, in one sentence for somebody who has never seen a gate")
    text: str = Field(description="the gate's own sentence")
    conditions: list[Reason]
    suites: list[SuiteRow]
    confidence: float
    slices: list[SliceRow]
    regressions: list[Changed] = Field(description="newly broken, the worst of those that decide first")
    regressions_total: int
    fixes: list[Changed]
    fixes_total: int
    funnel: dict[str, int] = Field(description="captured, consented, unique, kept")
    dropped: dict[str, int] = Field(description="reason -> rows")
    overlap: list[Overlap]
    judged_by: int | None = Field(description="labels, answers and cases that judge; None: not known")
    made_by: dict[str, int] = Field(description="what made the candidate -> labels or answers it saw")
    ancestors: list[Ancestor]
    evidence: list[str]
    approved_by: str | None
    started: datetime
    decided: datetime
    code_version: str
    config_hash: str
    seed: int
    interval: str = Field(description="how intervals were made")
    goodhart: Examination | None = Field(default=None, description="the monitor's look at this turn's period")
    sweep: SweepResult | None = Field(default=None, description="how the filter was found, where a sweep found it")
    rollout: list[Moment] = Field(
        default_factory=list[Moment],
        description="states of the routing since the candidate came, where it had canaries",
    )
