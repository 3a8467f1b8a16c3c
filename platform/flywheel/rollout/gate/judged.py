"""What a judge says, where one is configured: it can stop a candidate, and promotes none alone."""

from __future__ import annotations

from flywheel.config import GatePolicy
from flywheel.rollout.gate.condition import Condition, Outcome, at_least, condition, missing
from flywheel.rollout.gate.evidence import GateInput

_NAME = "judge_prefers"


def judged(given: GateInput, policy: GatePolicy) -> list[Condition]:
    """A judge whose word does not count leaves the question open: what it approved of may be what fools it."""
    judge = given.judge
    if judge is None:
        text = "No judge has compared the candidate with the live model; run `flywheel judge run`."
        return [condition(_NAME, Outcome.WAIT, text)] if policy.require_judge else []
    if not judge.counts:
        return [missing("judge_counts", f"The judge's word does not count: {judge.why}.")]
    text = f"The judge's word counts: {judge.why}."
    counts = condition("judge_counts", Outcome.PASS, text, measured=1, threshold=1)
    if judge.n is None and not policy.require_judge:
        return [counts]
    if not judge.n:
        text = "The judge has decided no pair yet; run `flywheel judge run`."
        return [counts, at_least(_NAME, 0, policy.min_judged_pairs, text)]
    if judge.rate is None or judge.interval is None:
        text = "One model's answers are all longer, or from one person: what the judge prefers cannot be told."
        return [counts, missing(_NAME, text)]
    return [counts, _preferred(judge.n, judge.rate, judge.interval, policy)]


def _preferred(n: int, rate: float, interval: tuple[float, float], policy: GatePolicy) -> Condition:
    few, limit, (low, high) = n < policy.min_judged_pairs, policy.min_judge_rate, interval
    if low > limit:
        outcome = Outcome.WAIT if few else Outcome.PASS
    else:
        outcome = Outcome.WAIT if few and high > limit else Outcome.FAIL
    text = (
        f"The judge prefers it in {rate:.1%} ({low:.1%} to {high:.1%}) of {n} pairs, length aside; all of the interval "
        f"must lie above {limit:.1%}, on at least {policy.min_judged_pairs} pairs."
    )
    return condition(_NAME, outcome, text, measured=rate, threshold=limit, interval=interval)
