"""Rows that move between the steps of this package, and the small functions that read their text."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from pydantic import Field

from flywheel.records import Message, Record

TUNE = "label_tune"
"""Hold-out reason of rows whose labels tune thresholds: they are scored, and never trained on."""
SCORED = frozenset({TUNE, "label_audit"})
"""The same for those whose labels audit the filter."""


class Evidence(Record):
    """Everything users did with one answer, aggregated. Counts are events, times are milliseconds."""

    up: int = 0
    down: int = 0
    rating: float | None = Field(default=None, description="mean of the raters' last ratings, 1 to 5")
    copies: int = 0
    clicks: int = 0
    completions: int = 0
    abandons: int = 0
    reprompts: int = 0
    dwell_ms: float | None = Field(default=None, description="longest dwell on the answer")
    won: int = Field(default=0, description="comparisons that preferred this answer")
    lost: int = 0
    tied: int = 0
    comments: list[str] = Field(default_factory=list[str], description="in the order in which they were written")
    completed_share: float | None = Field(default=None, description="mean share read or used, where it was reported")
    next_message: str | None = Field(default=None, description="what the person wrote next in the conversation")


class Candidate(Record):
    """One possible training row. Produced by ``build``, consumed by reward training, scoring and curation."""

    inference_id: str
    flow: str
    tenant: str = "default"
    subject: str = Field(description="who asked")
    rater: str = Field(description="who corrected or liked the answer")
    seconded: tuple[str, ...] = Field(default=(), description="who said the same, in rows that left as duplicates")
    ts: datetime
    messages: list[Message]
    answer: str = Field(description="the answer that was served")
    target: str = Field(description="the correction, the served answer where it was liked, or what a model was taught")
    origin: Literal["correction", "liked", "taught"]
    evidence: Evidence = Field(default_factory=Evidence)
    rater_reliability: float | None = Field(
        default=None, description="chance that the rater is right, by agreement; None: nobody else can tell"
    )
    held_out: str | None = Field(default=None, description="set: scored for tuning, never trained on")

    def raters(self) -> frozenset[str]:
        """Everybody who says that the target is right; each has one vote."""
        return frozenset((self.rater, *self.seconded))


class Drop(Record):
    """A row that will not be trained on, and why. Written beside the dataset so that it can be seen."""

    inference_id: str
    reason: str
    detail: str | None = None


class Keep(Record):
    """A row that passed every rule."""

    inference_id: str


class Exclusions(Record):
    """What training may not see, as the caller (labels, failures, evaluation) knows it; values are reasons."""

    subjects: dict[str, str] = Field(default_factory=dict, description="subject -> reason, e.g. label_gate")
    inference_ids: dict[str, str] = Field(default_factory=dict, description="inference id -> reason")
    texts: list[str] = Field(
        default_factory=list, description="of evaluation cases and labels, by `conversation_texts`"
    )
    decisive: list[str] = Field(
        default_factory=list,
        description="those of the suites that decide: compared once more by themselves, as the check before training "
        "does, because which n-grams are common depends on what is compared",
    )

    def reason(self, inference_id: str, subject: str) -> str | None:
        """Why this row is held out, or None. A subject's reason wins over a row's."""
        return self.subjects.get(subject) or self.inference_ids.get(inference_id)

    def teaches(self, rater: str) -> bool:
        """Whether training may learn from what this person says, of anybody's row: their own requests judge."""
        return rater not in self.subjects


class Funnel(Record):
    """captured >= consented >= unique >= kept, and captured - kept = the sum of all drops."""

    captured: int
    consented: int
    unique: int
    kept: int
    dropped: dict[str, int]


def prompt_text(messages: Sequence[Message]) -> str:
    """All turns, without system messages, which are mostly the same for everyone (where not: ``quality.asked``)."""
    return "\n".join(message.content for message in messages if message.role != "system")
