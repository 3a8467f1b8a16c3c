"""``flywheel policy evaluate``: a question to logged traffic, and what it says."""

from __future__ import annotations

from datetime import datetime

import numpy as np
from pydantic import Field

from flywheel.config import FlywheelConfig
from flywheel.config.offpolicy import ESTIMATORS, PolicyQuestion
from flywheel.lake.tables import Lake
from flywheel.records import Record, utcnow
from flywheel.statistics import offpolicy, offpolicy_lists
from flywheel.statistics.offpolicy_bias import position_bias
from flywheel.statistics.offpolicy_interval import mean_interval, shape
from flywheel.statistics.offpolicy_overlap import Limits
from flywheel.statistics.offpolicy_units import Units, Valuation
from flywheel.statistics.units import Estimate
from flywheel.workflow.offpolicy import choices, lists, variants
from flywheel.workflow.offpolicy.traffic import Reading


class Number(Record):
    """A mean with its interval."""

    mean: float
    low: float
    high: float


class Why(Record):
    """Why there is no number, and what to do."""

    code: str
    text: str


class Estimated(Record):
    """What one estimator says."""

    estimator: str
    value: Number | None = Field(description="mean outcome a row (or list) under the target; None: refused")
    gain: Number | None = Field(description="the same minus that of the policy that served, on the same rows")
    refused: list[Why]
    effective: float = Field(description="effective sample size in units (Kish)")
    expected_effective: float | None = Field(description="the same in rows, from the policies alone")
    expected_tail: float | None = Field(description="rows that the largest weights rest on, from the policies alone")
    max_weight: float
    max_share: float = Field(description="share of all weight that the heaviest unit has")
    mean_weight: float = Field(description="1 if all logged chances are true and nothing is missing")
    unsupported: float = Field(description="share of the target's choices that had no chance")


class Answer(Record):
    """What the rows say."""

    rows: int = Field(description="of them, used")
    units: int = Field(description="independent units: users, else sessions, else requests")
    logged: Number | None = Field(description="mean outcome under the policy that served")
    estimates: list[Estimated]
    model_says: float | None = Field(default=None, description="the reward model's own estimate (dm); no interval")
    looked_at: list[Number] = Field(
        default_factory=list[Number], description="lists: how much each place is looked at, the first is 1"
    )


class PolicyReport(Answer):
    """The answer to one question."""

    flow: str
    question: PolicyQuestion
    asked: datetime
    rows_seen: int
    left_out: dict[str, int] = Field(description="rows that could not be used, by reason")
    headline: Estimated = Field(description="of the estimates the one that counts")

    @property
    def refused(self) -> bool:
        """Whether there is no answer."""
        return self.headline.value is None


def evaluate_policy(
    lake: Lake, config: FlywheelConfig, question: PolicyQuestion, *, now: datetime | None = None
) -> PolicyReport:
    """Read the days that are asked for and evaluate the target on them. Changes nothing.

    Raises:
        UsageError: the file of scores cannot be read.
    """
    reading = Reading(lake, config.flow, question, now or utcnow())
    if question.of == "lists":
        found = lists.lists(reading)
        answer = _of_lists(question, *found) if found is not None else _of_nothing(question)
    else:
        log = (choices if question.of == "choices" else variants).decisions(reading)
        answer = _of_decisions(question, log) if log is not None else _of_nothing(question)
    return PolicyReport(
        flow=config.flow,
        question=question,
        asked=reading.now,
        rows_seen=reading.left_out.rows,
        left_out=dict(reading.left_out.reasons.most_common()),
        headline=_headline(answer.estimates, question),
        **dict(answer),
    )


def limits_of(question: PolicyQuestion) -> Limits:
    """The configured limits."""
    return Limits(**question.limits.model_dump())


def _of_nothing(question: PolicyQuestion) -> Answer:
    every = [_estimated(offpolicy.nothing(name)) for name in ESTIMATORS[question.of]]
    return Answer(rows=0, units=0, logged=None, estimates=every)


def _headline(every: list[Estimated], question: PolicyQuestion) -> Estimated:
    """The one that was asked for; without a reward model (one unit) the first that needs none."""
    return next((one for one in every if one.estimator == question.headline()), every[0])


def _of_decisions(question: PolicyQuestion, log: offpolicy.Decisions) -> Answer:
    seen = log if question.max_weight is None else offpolicy.limited(log, question.max_weight)
    fitting: list[offpolicy.Estimator] = [
        name for name in offpolicy.ESTIMATORS if seen.expected is not None or name not in offpolicy.MODELLED
    ]
    every = [
        offpolicy.evaluate(name, seen, confidence=question.confidence, limits=limits_of(question)) for name in fitting
    ]
    units = Units.of(log.units, log.weights.size)
    return Answer(
        rows=log.weights.size,
        units=units.sizes.size,
        logged=_mean(units, log.rewards, question.confidence),
        estimates=[_estimated(one) for one in every],
        model_says=offpolicy.direct(seen) if seen.expected is not None else None,
    )


def _of_lists(question: PolicyQuestion, log: offpolicy_lists.Lists, unsupported: float) -> Answer:
    by_place = offpolicy_lists.BY_PLACE
    fitting: list[offpolicy_lists.ListEstimator] = [
        name for name in offpolicy_lists.LIST_ESTIMATORS if question.by_place or name not in by_place
    ]
    every = [
        offpolicy_lists.evaluate_lists(
            name, log, confidence=question.confidence, limits=limits_of(question), unsupported=unsupported
        )
        for name in fitting
    ]
    units = Units.of(log.units, len(log.rewards))
    return Answer(
        rows=len(log.rewards),
        units=units.sizes.size,
        logged=_mean(units, log.rewards.sum(axis=1), question.confidence),
        estimates=[_estimated(one) for one in every],
        looked_at=_looked_at(log, units, question.confidence),
    )


def _looked_at(log: offpolicy_lists.Lists, units: Units, confidence: float) -> list[Number]:
    if log.logged_places is None:
        return []
    bias = position_bias(log.rewards, log.shown, log.logged_places, units)
    found = [] if bias.refused else bias.estimates(confidence)
    return [Number(mean=one.mean, low=one.low, high=one.high) for one in found]


def _mean(units: Units, rows: np.ndarray, confidence: float) -> Number:
    spread = shape(units.mean(rows))
    low, high = mean_interval(spread, confidence)
    return Number(mean=spread.mean, low=low, high=high)


def _estimated(done: Valuation) -> Estimated:
    seen = done.overlap
    return Estimated(
        estimator=done.estimator,
        value=_number(done.value),
        gain=_number(done.gain),
        refused=[Why(code=one.code, text=one.text) for one in done.refused],
        effective=seen.effective,
        expected_effective=seen.expected_effective,
        expected_tail=seen.expected_tail,
        max_weight=seen.max_weight,
        max_share=seen.max_share,
        mean_weight=seen.mean_weight,
        unsupported=seen.unsupported,
    )


def _number(found: Estimate | None) -> Number | None:
    return None if found is None else Number(mean=found.mean, low=found.low, high=found.high)
