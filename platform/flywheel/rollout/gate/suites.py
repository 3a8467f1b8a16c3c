"""Right and wrong answers: the gain on the primary suite, no loss on the guards, nothing missing, looked at once.

Superiority on the primary suite and non-inferiority on each guard must all hold (an intersection-union test): a bad
candidate passes only if it passes every single test, so each keeps its own level and several guards need no
correction (Berger, "Multiparameter hypothesis testing and acceptance sampling", Technometrics 24, 1982). A
correction would be needed for promoting if *any* suite gained, which the gate never does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from flywheel.config import GatePolicy
from flywheel.rollout.gate.condition import Condition, Outcome, at_least, condition, missing, points
from flywheel.rollout.gate.evidence import GateInput, SuiteEvidence


def suites(given: GateInput, policy: GatePolicy) -> list[Condition]:
    """Conditions about the primary suite, then one for each guard, then about what all of them lack."""
    found = [_enough(given.primary, policy), _gain(given, policy)]
    names = dict.fromkeys([*given.required_guards, *policy.guards, *given.guards])
    found += [_guard(name, given, policy) for name in names]
    return [*found, *_complete(given, policy), *_once(given)]


def undecided(given: GateInput, policy: GatePolicy) -> bool:
    """Whether an interval across its threshold may wait for more cases: only one that holds at every look."""
    seen = given.primary.n if given.primary else 0
    return given.sequential and seen < policy.max_primary_cases


def _enough(suite: SuiteEvidence | None, policy: GatePolicy) -> Condition:
    name, wanted = "primary_cases", policy.min_primary_cases
    if suite is None:
        return missing(name, "There is no random sample of labelled traffic to judge the candidate on.")
    text = f"{suite.n} randomly sampled, labelled requests were answered by both models; at least {wanted} are needed."
    return at_least(name, suite.n, wanted, text)


def _gain(given: GateInput, policy: GatePolicy) -> Condition:
    name, suite = "primary_gain", given.primary
    if suite is None or not _sound(suite):
        return missing(name, "The gain on randomly sampled requests could not be measured.")
    limit = policy.min_primary_gain
    text = f"{_words(suite)} All of the interval must lie above {points(limit)}."
    few = suite.n < policy.min_primary_cases
    outcome = Outcome.PASS if suite.low > limit else _beside(suite, limit, few=few, waits=undecided(given, policy))
    return _judged(name, outcome, suite, limit, text, few=few)


def _guard(suite_name: str, given: GateInput, policy: GatePolicy) -> Condition:
    name, suite = f"guard:{suite_name}", given.guards.get(suite_name)
    if suite is None and suite_name in given.unmade_guards:
        text = f"Suite '{suite_name}' guards nothing yet: {given.unmade_guards[suite_name]}."
        return condition(name, Outcome.PASS, text, measured=0)
    if suite is None or not _sound(suite):
        return missing(name, f"The suite '{suite_name}', which guards what already worked, was not measured.")
    limits = policy.guard(suite_name)
    limit, wanted = -limits.max_loss, limits.min_cases
    text = (
        f"Suite '{suite_name}': {_words(suite)} All of the interval must lie above {points(limit)}, "
        f"on at least {wanted} cases."
    )
    few = suite.n < wanted
    held = Outcome.WAIT if few else Outcome.PASS
    outcome = held if suite.low > limit else _beside(suite, limit, few=few, waits=undecided(given, policy))
    return _judged(name, outcome, suite, limit, text, few=few)


def _complete(given: GateInput, policy: GatePolicy) -> Iterator[Condition]:
    measured = [suite for suite in (given.primary, *given.guards.values()) if suite is not None]
    if not measured:
        return
    worst = max(measured, key=_unpaired_share)
    share, limit = _unpaired_share(worst), policy.max_unpaired_share
    text = "Every case has an answer of both models."
    if share:
        text = (
            f"{worst.unpaired + worst.failed} of {worst.n + worst.unpaired} cases of suite '{worst.suite}' lack an "
            f"answer of one model, and nobody knows whether it would have been right; at most {limit:.1%} may."
        )
    outcome = Outcome.PASS if share <= limit else Outcome.MISSING
    yield condition("complete_pairs", outcome, text, measured=share, threshold=limit)


def _once(given: GateInput) -> Iterator[Condition]:
    if given.sequential or not given.earlier_looks:
        return
    text = (
        f"{given.candidate} was compared with {given.live} before, on other cases. Looking until the result pleases "
        "promotes by chance: a bootstrap interval holds for one look. Set evaluation.interval=sequence to look "
        "repeatedly, or train a new candidate."
    )
    yield condition("one_look", Outcome.MISSING, text, measured=given.earlier_looks + 1, threshold=1)


def _beside(suite: SuiteEvidence, limit: float, *, few: bool, waits: bool) -> Outcome:
    """Of an interval that does not lie above its limit: one that is not all below it may wait."""
    return Outcome.WAIT if (few or waits) and suite.high > limit else Outcome.FAIL


def _judged(name: str, outcome: Outcome, suite: SuiteEvidence, limit: float, text: str, *, few: bool) -> Condition:
    if outcome is Outcome.WAIT:
        text += " Too few cases so far to tell." if few else " More cases may still decide it."
    return condition(name, outcome, text, measured=suite.gain, interval=(suite.low, suite.high), threshold=limit)


def _unpaired_share(suite: SuiteEvidence) -> float:
    return (suite.unpaired + suite.failed) / max(1, suite.n + suite.unpaired)


def _sound(suite: SuiteEvidence) -> bool:
    numbers = (suite.gain, suite.low, suite.high, suite.before, suite.after)
    return suite.n > 0 and all(map(math.isfinite, numbers)) and suite.low <= suite.high


def _words(suite: SuiteEvidence) -> str:
    return (
        f"The candidate was right on {suite.after:.1%}, the live model on {suite.before:.1%} of {suite.n}: "
        f"{points(suite.gain)} ({points(suite.low)} to {points(suite.high)})."
    )
