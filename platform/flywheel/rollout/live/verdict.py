"""What a tally says: the conditions, one reason each, and the state that follows. Pure.

=========  ==========================================================================================
worse      an alarm rang: an instrument that votes, or a slice, shows a loss for certain, or answers are
           missing, late or dear beyond the limit for certain
undecided  no alarm, but something is not measured, or is not certain yet
no_worse   every condition holds: whatever votes shows that the loss, if any, is within the margin
better     the same, and the first instrument's whole interval lies above 0
=========  ==========================================================================================

Instruments that know form only (is the answer empty, is it JSON) can say worse. To say no worse takes one that knows
meaning: a fluent wrong answer breaks no rule.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from flywheel.config import GatePolicy
from flywheel.records import Reason
from flywheel.rollout.gate.condition import Condition, Outcome, condition, missing, points
from flywheel.rollout.live.counts import Counts
from flywheel.rollout.live.instrument import Instrument, Voters
from flywheel.rollout.live.levels import Levels, levels, planned_units
from flywheel.rollout.live.ratios import Ratios
from flywheel.rollout.live.result import LiveVerdict, State
from flywheel.rollout.live.tally import Tally

COVERED = 0.9
"""Share of the answers that an instrument must have measured; of a smaller one nobody knows how it was picked."""


def judged(
    tally: Tally,
    instruments: Sequence[Instrument],
    votes: Voters,
    policy: GatePolicy,
    *,
    flow: str,
    candidate: str,
    live: str,
    budgeted: bool = False,
) -> LiveVerdict:
    """The verdict on what was counted so far.

    Args:
        tally: fixed units.
        instruments: what measures.
        votes: which of them may decide.
        policy: limits of latency and cost.
        flow: of both models.
        candidate: version.
        live: version.
        budgeted: the shadow has a budget of requests or tokens, so what was dropped is not the candidate's fault, and
            only failures that were stored are counted.
    """
    level, by_name = levels(tally.rules, len(votes.names)), {one.name: one for one in instruments}
    first = deciding(instruments, votes)
    quality = [_quality(tally, by_name[name], level) for name in votes.names]
    found = [
        _heard(votes, by_name),
        *quality,
        *_missing(tally, level, budgeted=budgeted),
        *_latency(tally, level),
        *_cost(tally, level, policy),
        *_slices(tally, votes.names, first, level),
    ]
    counts = tally.overall.get(first)
    interval = counts.interval(level.confidence) if counts else None
    low, high = (end / tally.scale for end in interval) if interval else (None, None)
    return LiveVerdict(
        flow=flow,
        candidate=candidate,
        live=live,
        source=tally.source,
        pairs=tally.rows,
        units=tally.units,
        missing=tally.missing,
        mean=counts.mean / tally.scale if counts and counts.mean is not None else None,
        low=None if low is None else max(-1.0, low),
        high=None if high is None else min(1.0, high),
        planned_units=planned_units(tally.rules, tally.source, len(votes.names)),
        state=_state([one.outcome for one in found], low),
        reasons=[_told(one) for one in found],
    )


def deciding(instruments: Sequence[Instrument], votes: Voters) -> str:
    """The instrument whose interval is shown: the first that knows meaning, else the first; "" where none votes."""
    meaning = {one.name for one in instruments if one.knows == "meaning"}
    return next((name for name in votes.names if name in meaning), next(iter(votes.names), ""))


def _told(one: Condition) -> Reason:
    """``passed`` is False for alarms only: what is not certain yet has neither passed nor failed."""
    return one.reason.model_copy(update={"passed": None}) if one.outcome is Outcome.WAIT else one.reason


def _state(outcomes: Sequence[Outcome], low: float | None) -> State:
    if Outcome.FAIL in outcomes:
        return "worse"
    if low is None or Outcome.MISSING in outcomes or Outcome.WAIT in outcomes:
        return "undecided"
    return "better" if low > 0 else "no_worse"


def _heard(votes: Voters, by_name: Mapping[str, Instrument]) -> Condition:
    silent = "; ".join(f"{name} does not count: {why}" for name, why in sorted(votes.silent.items()))
    after = f" ({silent})" if silent else ""
    if not any(by_name[name].knows == "meaning" for name in votes.names):
        text = f"Nothing that may decide can tell right answers from wrong ones{after}. Name one in rollout.live."
        return missing("quality", text)
    return condition("quality", Outcome.PASS, f"Decided by {', '.join(votes.names)}{after}.")


def _quality(tally: Tally, one: Instrument, level: Levels) -> Condition:
    name, counts, scale = f"quality:{one.name}", tally.overall.get(one.name), tally.scale
    if counts is None or counts.mean is None:
        return _not_yet(name, tally, f"{one.name} has measured no pair yet.")
    low, high = (end / scale for end in counts.interval(level.confidence) or (-math.inf, math.inf))
    margin = tally.rules.margin
    text = (
        f"By {one.name} {one.version} the candidate is {points(counts.mean / scale)} ({points(low)} to "
        f"{points(high)}) beside the live model, on {counts.n:,} units. All of the interval must lie above "
        f"{points(-margin)}."
    )
    share = tally.measured.get(one.name, 0) / max(1, tally.answered)
    lost = counts.below(0.0, level.quality)
    outcome = Outcome.PASS if low > -margin else Outcome.FAIL if lost else Outcome.WAIT
    if outcome is not Outcome.FAIL and share < COVERED * one.share:
        return missing(name, f"{one.name} measured {share:.0%} of the answers, and nobody knows why those.")
    return _numbers(name, outcome, text, counts.mean / scale, interval=(low, high), limit=-margin)


def _missing(tally: Tally, level: Levels, *, budgeted: bool) -> list[Condition]:
    if tally.source == "side_by_side":
        return []  # a candidate without an answer is not shown; the shadow and the gateway's counters see that
    return [_unanswered(tally, level, budgeted=budgeted)]


def _unanswered(tally: Tally, level: Levels, *, budgeted: bool) -> Condition:
    name, limit, counts, scale = "missing", tally.rules.max_missing_share, tally.failures, tally.scale
    interval = counts.interval(level.confidence)
    if interval is None or counts.mean is None:
        return _not_yet(name, tally, "No request was mirrored or assigned to the candidate yet.")
    least = -1.0 if tally.source == "canary" else 0.0  # a canary may fail less than the live model
    mean, low, high = (min(1.0, max(least, each / scale)) for each in (counts.mean, *interval))
    outcome = Outcome.PASS if high <= limit else Outcome.WAIT
    if counts.above(limit * scale, level.missing):
        outcome = Outcome.FAIL
    if tally.source == "canary":
        text = f"Of a user's requests it failed {points(mean)} ({points(low)} to {points(high)}) beside the live model"
    else:
        text = f"The candidate brought no answer to {mean:.1%} ({low:.1%} to {high:.1%}) of a unit's requests"
    text += f"; all of the interval must lie at or below {limit:.1%}."
    text += " What the shadow's budget dropped is not among them." if budgeted else ""
    return _numbers(name, outcome, text, mean, interval=(low, high), limit=limit)


def _latency(tally: Tally, level: Levels) -> list[Condition]:
    if tally.source != "shadow":
        return []  # its users' requests are timed by the gateway, whose counters the rollout watches
    if not tally.latency.n:
        return [_not_yet("latency", tally, "No pair was timed on both sides.")]
    return [_ratio("latency", tally.latency, level.latency, level.confidence, "time")]


def _cost(tally: Tally, level: Levels, policy: GatePolicy) -> list[Condition]:
    if policy.max_token_ratio is None or tally.source != "shadow":
        return []
    if not tally.tokens.n:
        return [_not_yet("cost", tally, "No pair has the tokens of both sides.")]
    return [_ratio("cost", tally.tokens, level.cost, level.confidence, "tokens")]


def _ratio(name: str, ratios: Ratios, alpha: float, confidence: float, what: str) -> Condition:
    low, high = ratios.interval(confidence) or (0.0, math.inf)
    outcome = Outcome.PASS if high <= ratios.limit * (1 + 1e-9) else Outcome.WAIT
    if ratios.above(alpha):
        outcome = Outcome.FAIL
    text = (
        f"A typical answer takes {ratios.median() or 0:.2f} times the live model's {what} ({low:.2f} to {high:.2f}), "
        f"on {ratios.n:,} units. All of the interval must lie at or below {ratios.limit:g}."
    )
    return _numbers(name, outcome, text, ratios.median() or 0.0, interval=(low, high), limit=ratios.limit)


def _slices(tally: Tally, names: Sequence[str], first: str, level: Levels) -> list[Condition]:
    return [_slice(tally, group, names, first, level) for group in tally.slices]


def _slice(tally: Tally, group: str, names: Sequence[str], first: str, level: Levels) -> Condition:
    """An alarm only: a slice without one is not shown to be well, but no worse than what nobody noticed."""
    margin, by_name = tally.rules.margin, tally.slices[group]
    harmed = [name for name in names if name in by_name and _harmed(by_name[name], tally, level)]
    shown = harmed[0] if harmed else first
    counts = by_name.get(shown)
    if counts is None or counts.mean is None:
        return condition(f"slice:{group}", Outcome.PASS, f"Not measured by {shown or 'anything'} in {group}.")
    mean = counts.mean / tally.scale
    text = f"In {group}, by {shown}, it is {points(mean)} on {counts.n:,} units"
    if not harmed:
        told = f"{text}; no loss beyond {points(-margin)} is shown, corrected for {tally.rules.max_slices} groups."
        return condition(f"slice:{group}", Outcome.PASS, told, measured=mean, threshold=-margin)
    low, high = (end / tally.scale for end in counts.interval(level.slice_confidence) or (-math.inf, math.inf))
    text += (
        f" ({points(low)} to {points(high)}, corrected for {tally.rules.max_slices} groups): all of the interval lies "
        f"below {points(-margin)}."
    )
    return _numbers(f"slice:{group}", Outcome.FAIL, text, mean, interval=(low, high), limit=-margin)


def _harmed(counts: Counts, tally: Tally, level: Levels) -> bool:
    return counts.below(-tally.rules.margin * tally.scale, level.slice)


def _not_yet(name: str, tally: Tally, text: str) -> Condition:
    """Before the first unit everything waits; after it, what was not measured is missing."""
    return missing(name, text) if tally.units else condition(name, Outcome.WAIT, text)


def _numbers(
    name: str, outcome: Outcome, text: str, measured: float, *, interval: tuple[float, float], limit: float
) -> Condition:
    ends = tuple(end if math.isfinite(end) else None for end in interval)
    both = (ends[0], ends[1]) if ends[0] is not None and ends[1] is not None else None
    return condition(name, outcome, text, measured=measured, threshold=limit, interval=both)


def failed(reasons: Sequence[Reason]) -> list[str]:
    """Names of the conditions that rang an alarm."""
    return [reason.name for reason in reasons if reason.outcome == Outcome.FAIL.value]
