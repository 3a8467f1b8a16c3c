"""The gate: may this candidate serve? Pure, and no by default.

Every condition gives one ``Reason``. How they add up:

==============  =========================================================================================
reject          a hard condition failed: the gain is not shown, a guard suite lost too much, the shadow
                failed or was slow, personal data leaked, data of an erased person made the candidate, or
                judging data (or a text that overlaps with it) did
inconclusive    nothing failed, but a number is missing or not finite: nobody can know
continue        nothing failed or is missing, but there are too few cases or shadow pairs: collect more
promote         every condition holds
==============  =========================================================================================

The order is the precedence: one failed condition rejects, whatever else is missing. With fewer cases than
``min_primary_cases`` (or ``min_guard_cases``) a condition can still fail, when its whole interval lies on the wrong
side; otherwise it waits.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Collection, Mapping
from typing import NamedTuple

from pydantic import Field

from flywheel.config import GatePolicy
from flywheel.judging.evidence import JudgeEvidence
from flywheel.records import Reason, Record, Verdict
from flywheel.rollout.shadow import ShadowSummary


class SuiteEvidence(Record):
    """A suite's paired comparison, candidate minus live, in shares of cases."""

    suite: str
    n: int
    before: float
    after: float
    gain: float
    low: float = Field(description="lower end of the gain's interval")
    high: float = Field(description="upper end of the gain's interval")


class Lineage(Record):
    """What judged the candidate, and what made it. Ids of labels and of inferences may be mixed freely.

    Every instrument and data set that shaped the candidate has an entry in ``used``, empty where it used none.
    """

    judged_by: frozenset[str] = Field(description="labels of split gate, inferences and ids of the evaluation cases")
    used: dict[str, frozenset[str]] = Field(description="filter, sweep, reward model, training -> ids they saw")


class GateInput(Record):
    """Everything the gate looks at. None means: not measured, and then the candidate is not promoted."""

    candidate: str
    live: str
    primary: SuiteEvidence | None
    guards: dict[str, SuiteEvidence | None] = Field(default_factory=dict)
    required_guards: list[str] = Field(description="suites that must be among ``guards``")
    shadow: ShadowSummary | None
    leaks: int | None = Field(description="personal data found in the training examples")
    contamination: int | None = Field(
        default=None, description="training examples that overlap with a case of the suites that decide"
    )
    erased: list[str] | None = Field(description="manifests behind the candidate that are marked: data since erased")
    lineage: Lineage | None
    judge: JudgeEvidence | None = Field(default=None, description="a judge's word, where one is configured")
    required_instruments: list[str] = Field(
        default_factory=lambda: ["filter", "sweep", "reward", "training"],
        description="entries that ``lineage.used`` must have; an empty entry says that it saw nothing",
    )


class GateResult(Record):
    """The verdict, the conditions behind it, and one sentence."""

    verdict: Verdict
    reasons: list[Reason]
    text: str


class Outcome(enum.Enum):
    """How a condition came out; ``Reason.passed`` holds it in three values for people."""

    PASS = "pass"
    FAIL = "fail"
    WAIT = "wait"
    MISSING = "missing"


class _Condition(NamedTuple):
    outcome: Outcome
    reason: Reason


def decide(given: GateInput, policy: GatePolicy) -> GateResult:
    """The verdict about one candidate. See the module's text for the rules."""
    conditions = [_enough("primary_cases", given.primary, policy.min_primary_cases), _gain(given.primary, policy)]
    for name in dict.fromkeys([*given.required_guards, *given.guards]):
        conditions += [_guard(name, given.guards.get(name), policy)]
    conditions += _shadow(given.shadow, policy)
    conditions += [_leaks(given.leaks, policy), _contamination(given.contamination), _erased(given.erased)]
    conditions += [_lineage(given.lineage, given.required_instruments)]
    conditions += _judge(given.judge, policy)
    verdict = _verdict({condition.outcome for condition in conditions})
    return GateResult(
        verdict=verdict,
        reasons=[condition.reason for condition in conditions],
        text=_summary(verdict, given, conditions),
    )


def _verdict(outcomes: Collection[Outcome]) -> Verdict:
    by_precedence: dict[Outcome, Verdict] = {
        Outcome.FAIL: "reject",
        Outcome.MISSING: "inconclusive",
        Outcome.WAIT: "continue",
    }
    for outcome, verdict in by_precedence.items():
        if outcome in outcomes:
            return verdict
    return "promote"


def _enough(name: str, suite: SuiteEvidence | None, wanted: int) -> _Condition:
    if suite is None:
        return _missing(name, "There is no random sample of labelled traffic to judge the candidate on.")
    text = f"{suite.n} randomly sampled, labelled requests were answered by both models; at least {wanted} are needed."
    return _counted(name, suite.n, wanted, text)


def _gain(suite: SuiteEvidence | None, policy: GatePolicy) -> _Condition:
    name = "primary_gain"
    if suite is None or not _sound(suite):
        return _missing(name, "The gain on randomly sampled requests could not be measured.")
    limit = policy.min_primary_gain
    text = f"{_words(suite)} All of the interval must lie above {_points(limit)}."
    if suite.low > limit:
        outcome = Outcome.PASS
    elif suite.n < policy.min_primary_cases and suite.high > limit:
        outcome = Outcome.WAIT
    else:
        outcome = Outcome.FAIL
    return _interval(name, outcome, suite, limit, text)


def _guard(suite_name: str, suite: SuiteEvidence | None, policy: GatePolicy) -> _Condition:
    name = f"guard:{suite_name}"
    if suite is None or not _sound(suite):
        return _missing(name, f"The suite '{suite_name}', which guards what already worked, was not measured.")
    limit = -policy.max_guard_loss
    text = (
        f"Suite '{suite_name}': {_words(suite)} All of the interval must lie above {_points(limit)}, "
        f"on at least {policy.min_guard_cases} cases."
    )
    few = suite.n < policy.min_guard_cases
    if suite.low > limit:
        outcome = Outcome.WAIT if few else Outcome.PASS
    else:
        outcome = Outcome.WAIT if few and suite.high > limit else Outcome.FAIL
    return _interval(name, outcome, suite, limit, text)


def _shadow(shadow: ShadowSummary | None, policy: GatePolicy) -> list[_Condition]:
    if not policy.require_shadow and shadow is None:
        return []
    if shadow is None:
        return [_missing("shadow_pairs", "The candidate has not answered any live request in the shadow.")]
    n, wanted = shadow.n, policy.min_shadow_pairs
    text = f"{n} live requests were mirrored to the candidate; at least {wanted} are needed."
    few = n < wanted
    return [
        _counted("shadow_pairs", n, wanted, text),
        _at_most(
            "shadow_errors",
            shadow.error_rate,
            policy.max_shadow_error_rate,
            few,
            f"It failed on {shadow.errors} of {n} mirrored requests; at most {policy.max_shadow_error_rate:.1%} may.",
        ),
        _at_most(
            "shadow_latency",
            shadow.latency_ratio,
            policy.max_latency_ratio,
            few,
            f"Its typical answer takes {_times(shadow.latency_ratio)} the live model's time; "
            f"at most {policy.max_latency_ratio:g} times is allowed.",
        ),
    ]


def _leaks(leaks: int | None, policy: GatePolicy) -> _Condition:
    if leaks is None:
        return _missing("no_leaks", "The training examples were not scanned for personal data.")
    text = (
        f"{leaks} pieces of personal data were found in the training examples; at most {policy.max_leaks} may be there."
    )
    outcome = Outcome.PASS if 0 <= leaks <= policy.max_leaks else Outcome.FAIL
    return _condition("no_leaks", outcome, text, measured=leaks, threshold=policy.max_leaks)


def _contamination(rows: int | None) -> _Condition:
    if rows is None:
        return _missing("no_contamination", "The training examples were not compared with the cases that decide.")
    text = (
        f"{rows} training examples overlap with cases that decide about the candidate"
        f"{': its score on them proves nothing' if rows else ''}."
    )
    outcome = Outcome.PASS if rows == 0 else Outcome.FAIL
    return _condition("no_contamination", outcome, text, measured=rows, threshold=0)


def _erased(marked: Collection[str] | None) -> _Condition:
    name = "no_erased_data"
    if marked is None:
        return _missing(name, "It is not known what the candidate was made of, so erased data may be in it.")
    text = "Nothing that made the candidate was erased since."
    if marked:
        text = (
            f"A person was erased whose data made the candidate ({', '.join(sorted(marked))}). "
            "Run a new turn: it starts from the newest model without such data."
        )
    outcome = Outcome.FAIL if marked else Outcome.PASS
    return _condition(name, outcome, text, measured=len(marked), threshold=0)


def _lineage(lineage: Lineage | None, required: Collection[str]) -> _Condition:
    name = "separate_judges"
    absent = sorted(required) if lineage is None else sorted(set(required) - lineage.used.keys())
    if lineage is None or not lineage.judged_by or absent:
        what = f" (no record of: {', '.join(absent)})" if absent else ""
        return _missing(name, f"It is not known which data judged the candidate and which made it{what}.")
    shared = {maker: ids & lineage.judged_by for maker, ids in sorted(lineage.used.items())}
    count = len(frozenset[str]().union(*shared.values()))
    guilty = [f"{maker} ({len(ids)})" for maker, ids in shared.items() if ids]
    text = "Nothing that judges the candidate was used to make it."
    if guilty:
        text = (
            f"Data kept for judging was also used to make the candidate: {', '.join(guilty)}. Its score proves nothing."
        )
    outcome = Outcome.FAIL if guilty else Outcome.PASS
    return _condition(name, outcome, text, measured=count, threshold=0)


def _judge(judge: JudgeEvidence | None, policy: GatePolicy) -> list[_Condition]:
    """A judge whose word does not count leaves the question open: what it approved of may be what fools it."""
    name = "judge_prefers"
    if judge is None:
        text = "No judge has compared the candidate with the live model; run `flywheel judge run`."
        return [_missing(name, text)] if policy.require_judge else []
    if not judge.counts:
        return [_missing("judge_counts", f"The judge's word does not count: {judge.why}.")]
    counts = _condition("judge_counts", Outcome.PASS, f"The judge's word counts: {judge.why}.", measured=1, threshold=1)
    if judge.n is None and not policy.require_judge:
        return [counts]
    if not judge.n:
        few = _counted(name, 0, policy.min_judged_pairs, "The judge has decided no pair yet; run `flywheel judge run`.")
        return [counts, few]
    if judge.rate is None or judge.interval is None:
        text = "One model's answers are all longer, or from one person: what the judge prefers cannot be told."
        return [counts, _missing(name, text)]
    return [counts, _preferred(name, judge.n, judge.rate, judge.interval, policy)]


def _preferred(name: str, n: int, rate: float, interval: tuple[float, float], policy: GatePolicy) -> _Condition:
    few, limit, (low, high) = n < policy.min_judged_pairs, policy.min_judge_rate, interval
    if low > limit:
        outcome = Outcome.WAIT if few else Outcome.PASS
    else:
        outcome = Outcome.WAIT if few and high > limit else Outcome.FAIL
    text = (
        f"The judge prefers it in {rate:.1%} ({low:.1%} to {high:.1%}) of {n} pairs, length aside; all of the interval "
        f"must lie above {limit:.1%}, on at least {policy.min_judged_pairs} pairs."
    )
    return _Condition(
        outcome,
        Reason(name=name, passed=_passed(outcome), measured=rate, interval=interval, threshold=limit, text=text),
    )


def _counted(name: str, n: int, wanted: int, text: str) -> _Condition:
    outcome = Outcome.PASS if n >= wanted and n > 0 else Outcome.WAIT
    return _condition(name, outcome, text, measured=n, threshold=wanted)


def _at_most(name: str, value: float | None, limit: float, few: bool, text: str) -> _Condition:
    if value is None or not math.isfinite(value):
        return _missing(name, f"Not measured: {name.replace('_', ' ')}.")
    beyond = Outcome.WAIT if few else Outcome.FAIL  # a few unlucky requests at the start prove nothing yet
    outcome = Outcome.PASS if value <= limit else beyond
    return _condition(name, outcome, text, measured=value, threshold=limit)


def _interval(name: str, outcome: Outcome, suite: SuiteEvidence, limit: float, text: str) -> _Condition:
    reason = Reason(
        name=name,
        passed=_passed(outcome),
        measured=suite.gain,
        interval=(suite.low, suite.high),
        threshold=limit,
        text=text if outcome is not Outcome.WAIT else f"{text} Too few cases so far to tell.",
    )
    return _Condition(outcome, reason)


def _condition(name: str, outcome: Outcome, text: str, *, measured: float, threshold: float) -> _Condition:
    return _Condition(
        outcome, Reason(name=name, passed=_passed(outcome), measured=measured, threshold=threshold, text=text)
    )


def _missing(name: str, text: str) -> _Condition:
    return _Condition(Outcome.MISSING, Reason(name=name, passed=None, text=text))


def _passed(outcome: Outcome) -> bool | None:
    return None if outcome is Outcome.MISSING else outcome is Outcome.PASS


def _sound(suite: SuiteEvidence) -> bool:
    numbers = (suite.gain, suite.low, suite.high, suite.before, suite.after)
    return suite.n > 0 and all(map(math.isfinite, numbers)) and suite.low <= suite.high


def _words(suite: SuiteEvidence) -> str:
    return (
        f"The candidate was right on {suite.after:.1%}, the live model on {suite.before:.1%} of {suite.n}: "
        f"{_points(suite.gain)} ({_points(suite.low)} to {_points(suite.high)})."
    )


def _points(share: float) -> str:
    return f"{100 * share:+.1f} points"


def _times(ratio: float | None) -> str:
    return "an unknown multiple of" if ratio is None else f"{ratio:.2f} times"


def _summary(verdict: Verdict, given: GateInput, conditions: Collection[_Condition]) -> str:
    open_names: Mapping[Outcome, list[str]] = {
        outcome: [item.reason.name for item in conditions if item.outcome is outcome] for outcome in Outcome
    }
    if verdict == "promote":
        return f"{given.candidate} may replace {given.live}: all {len(conditions)} conditions hold."
    if verdict == "reject":
        return f"{given.candidate} may not replace {given.live}; failed: {', '.join(open_names[Outcome.FAIL])}."
    if verdict == "inconclusive":
        return f"{given.candidate} cannot be judged; not measured: {', '.join(open_names[Outcome.MISSING])}."
    return f"{given.candidate} needs more evidence; too little of: {', '.join(open_names[Outcome.WAIT])}."
