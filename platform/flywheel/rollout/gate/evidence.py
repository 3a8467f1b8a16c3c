"""What the gate looks at. Every None, and every entry that is not there, means: not measured."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from flywheel.judging.evidence import JudgeEvidence
from flywheel.records import Reason, Record, Verdict
from flywheel.rollout.live.result import LiveVerdict
from flywheel.rollout.shadow import ShadowSummary

Behaviour = Literal["latency", "tokens", "length", "empty", "refusals"]
"""How answers to the primary suite can differ apart from right and wrong."""


class SuiteEvidence(Record):
    """A suite's paired comparison, candidate minus live, in shares of cases."""

    suite: str
    n: int
    before: float
    after: float
    gain: float
    low: float = Field(description="lower end of the gain's interval")
    high: float = Field(description="upper end of the gain's interval")
    unpaired: int = Field(default=0, description="further cases that only one model was asked")
    failed: int = Field(default=0, description="of the n, those that a machine got no answer to from one model")


class Change(Record):
    """One property of the answers: of the live model, of the candidate, and how they compare."""

    n: int = Field(description="pairs in which it was measured on both sides")
    before: float
    after: float
    value: float = Field(description="after / before of medians, or after - before of shares")
    low: float = Field(description="lower end of the value's interval")
    high: float = Field(description="upper end of the value's interval")


class Agreement(Record):
    """How often the filter decided as ``audit`` labels do, which nothing was tuned on."""

    n: int = Field(description="labelled rows that the filter decided about")
    rate: float
    low: float
    high: float


class Lineage(Record):
    """What judged the candidate, and what made it. Ids of labels and of inferences may be mixed freely.

    Every instrument and data set that shaped the candidate has an entry in ``used``, empty where it used none.
    """

    judged_by: frozenset[str] = Field(description="labels of split gate, inferences and ids of the evaluation cases")
    used: dict[str, frozenset[str]] = Field(description="filter, sweep, reward model, training -> ids they saw")
    sources: dict[str, list[str]] = Field(
        default_factory=dict, description="the same keys -> manifests that say so, as kind/id"
    )

    def overlap(self) -> dict[str, list[str]]:
        """Maker -> ids that also judge; makers without any are left out."""
        shared = {maker: sorted(ids & self.judged_by) for maker, ids in sorted(self.used.items())}
        return {maker: ids for maker, ids in shared.items() if ids}


class GateInput(Record):
    """Everything the gate looks at. None means: not measured, and then the candidate is not promoted."""

    candidate: str
    live: str
    primary: SuiteEvidence | None
    guards: dict[str, SuiteEvidence | None] = Field(default_factory=dict)
    required_guards: list[str] = Field(description="suites that must be among ``guards``")
    unmade_guards: dict[str, str] = Field(
        default_factory=dict,
        description="guards that cannot have a case yet -> why; suites that lost theirs are not here",
    )
    sequential: bool = Field(default=False, description="intervals hold at every look, so more cases may be waited for")
    earlier_looks: int = Field(default=0, description="verdicts about this pair of models on other, enough cases")
    behaviour: dict[Behaviour, Change] = Field(default_factory=dict, description="on the primary suite")
    shadow: ShadowSummary | None
    leaks: int | None = Field(description="personal data found in the training examples")
    contamination: int | None = Field(
        default=None, description="training examples that overlap with a case of the suites that decide"
    )
    erased: list[str] | None = Field(description="manifests behind the candidate that are marked: data since erased")
    audit: Agreement | None = None
    lineage: Lineage | None
    judge: JudgeEvidence | None = Field(default=None, description="a judge's word, where one is configured")
    live_quality: LiveVerdict | None = Field(default=None, description="what answers to live traffic say")
    required_instruments: list[str] = Field(
        default_factory=lambda: ["filter", "sweep", "reward", "training"],
        description="entries that ``lineage.used`` must have; an empty entry says that it saw nothing",
    )
    approved_by: str | None = Field(default=None, description="who approved this candidate on exactly this evidence")


class GateResult(Record):
    """The verdict, the conditions behind it, and one sentence."""

    verdict: Verdict
    reasons: list[Reason]
    text: str
