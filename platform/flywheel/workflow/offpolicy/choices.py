"""Best-of-n rows as decisions: the logged chance of what was served, and the target's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from flywheel.config.offpolicy import PolicyQuestion
from flywheel.statistics.offpolicy import Decisions, moments
from flywheel.statistics.offpolicy_model import cross_fitted
from flywheel.statistics.offpolicy_policies import choice_chances
from flywheel.statistics.policies import LARGEST, Policy
from flywheel.workflow.offpolicy.outcomes import outcomes, scale_of
from flywheel.workflow.offpolicy.ragged import Bools, Floats, Ints, flat, lengths, numbers, padded, pc
from flywheel.workflow.offpolicy.scores import Scores, read_scores
from flywheel.workflow.offpolicy.traffic import Day, LeftOut, Reading

COLUMNS = ("choice_served", "choice_scores", "choice_propensity", "choosing")
WIDEST = 64
"""Choices of one row at the most; the gateway draws up to 8."""
_TOLERANCE = 1e-6


@dataclass
class _Part:
    """Rows of one day, padded to ``WIDEST`` at the most."""

    units: Ints
    rewards: Floats
    served: Ints
    logged: Floats
    """(rows, choices): chance of each."""
    target: Floats
    scores: Floats
    """(rows, choices, 2): by the logged ranker, by the target's."""
    there: Bools


def decisions(reading: Reading) -> Decisions | None:
    """All usable rows of the days asked for; None: there are none."""
    question = reading.question
    ranker = read_scores(question.scores) if question.scores is not None else None
    parts = [part for day in reading.days(columns=COLUMNS) if (part := _part(day, reading, ranker)) is not None]
    return _joined(parts, question) if parts else None


def policy_of(question: PolicyQuestion) -> Policy:
    """The target, in the terms of ``gateway.choosing``."""
    if question.policy == "uniform":
        return Policy(question.temperature, 1.0)
    return Policy(question.temperature if question.policy == "softmax" else 0.0, question.epsilon)


def _part(day: Day, reading: Reading, ranker: Scores | None) -> _Part | None:
    left_out, outcome = reading.left_out, reading.question.outcome
    rows = left_out.keep(day.rows, pc.is_valid(day.rows["choice_propensity"]), "no_choice_was_made")
    sizes = lengths(rows["choice_scores"])
    rows = left_out.keep(rows, (sizes >= 1) & (sizes <= WIDEST), "no_scores")
    rows, target = target_scores(rows, "choice_scores", ranker, left_out)
    if not len(rows):
        return None
    rewards = outcomes(rows, day.reactions, outcome)
    if outcome.leaves_out():
        said = np.isfinite(rewards)
        rows, rewards, target = left_out.keep(rows, said, "no_reaction"), rewards[said], target.filter(pa.array(said))
    return _as_numbers(rows, np.nan_to_num(rewards), target, reading)


def _as_numbers(rows: pa.Table, rewards: Floats, target: pa.Array, reading: Reading) -> _Part | None:
    sizes = lengths(rows["choice_scores"])
    mine, there = padded(flat(rows["choice_scores"]), sizes)
    theirs, _ = padded(flat(target), sizes)
    logged = logged_chances(rows["choosing"], mine, there)
    served = np.nan_to_num(numbers(rows["choice_served"])).astype(np.int64)
    at = np.clip(served, 0, mine.shape[1] - 1)
    claimed, known = numbers(rows["choice_propensity"]), np.arange(len(rows))
    true = (served == at) & (claimed > 0) & (np.abs(logged[known, at] - claimed) <= _TOLERANCE)
    kept = reading.left_out.keep(rows, true, "chance_is_not_that_of_the_policy")
    if not len(kept):
        return None
    return _Part(
        units=reading.people.of(kept),
        rewards=rewards[true],
        served=at[true],
        logged=logged[true],
        target=choice_chances(theirs[true], policy_of(reading.question), there[true]),
        scores=np.stack([mine, theirs], axis=2)[true],
        there=there[true],
    )


def target_scores(rows: pa.Table, column: str, ranker: Scores | None, left_out: LeftOut) -> tuple[pa.Table, pa.Array]:
    """Rows with usable scores of the target's ranker, and those. ``column``: the logged ones, which they must fit."""
    found = rows[column].combine_chunks() if ranker is None else ranker.of(rows["inference_id"])
    if ranker is not None:
        there = pc.is_valid(found)
        rows, found = left_out.keep(rows, there, "no_target_scores"), found.filter(there)
    good = (lengths(found) == lengths(rows[column])) & _usable(found)
    return left_out.keep(rows, good, "scores_do_not_fit"), found.filter(pa.array(good))


def _usable(lists: pa.Array) -> Bools:
    """Whether each list holds finite numbers only."""
    sizes = lengths(lists)
    bad = ~(np.abs(flat(lists)) <= LARGEST)  # NaN compares false
    return np.bincount(np.repeat(np.arange(sizes.size), sizes), weights=bad, minlength=sizes.size) == 0


def logged_chances(choosing: pa.ChunkedArray, scores: Floats, there: Bools) -> Floats:
    """(rows, choices): the chances that the policy in each row gives. Few policies are in force in a day."""
    temperature, epsilon = (numbers(pc.struct_field(choosing, name)) for name in ("temperature", "epsilon"))
    found = np.full(scores.shape, np.nan)
    for warm, explores in np.unique(np.column_stack([temperature, epsilon]), axis=0):
        same = (temperature == warm) & (epsilon == explores)
        if np.isfinite(warm) and np.isfinite(explores) and same.any():
            found[same] = choice_chances(scores[same], Policy(float(warm), float(explores)), there[same])
    return found


def _joined(parts: list[_Part], question: PolicyQuestion) -> Decisions:
    """Days as one, with a reward model on what the rankers say of each choice."""
    wide = max(part.there.shape[1] for part in parts)

    def column(name: str) -> Floats:
        return np.concatenate([_widened(getattr(part, name), wide) for part in parts])

    logged, target, there, scores = column("logged"), column("target"), column("there"), column("scores")
    units, rewards, served = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("units", "rewards", "served")
    )
    row, scale = np.arange(served.size), scale_of(question.outcome)
    ratio = np.divide(target, logged, out=np.zeros_like(target), where=logged > 0)
    predicted = _predicted(scores, there > 0, served, rewards, units)
    return Decisions(
        weights=ratio[row, served],
        rewards=rewards,
        units=units,
        served=None if predicted is None else predicted[row, served],
        expected=None if predicted is None else (predicted * target).sum(axis=1),
        moments=moments(target, logged),
        unsupported=np.where(logged > 0, 0.0, target).sum(axis=1),
        low=scale.low,
        high=scale.high,
    )


def _predicted(scores: Floats, there: Bools, served: Ints, rewards: Floats, units: Ints) -> Floats | None:
    """(rows, choices): outcomes by a linear model of both rankers' scores, and of how far each is below the best."""
    if np.unique(units).size < 2:
        return None
    best = np.where(there[:, :, None], scores, -np.inf).max(axis=1, keepdims=True)
    features = np.concatenate([scores, np.minimum(best - scores, 50.0)], axis=2)
    features = np.clip(np.where(there[:, :, None], features, 0.0), -1e6, 1e6)
    return cross_fitted(features[np.arange(served.size), served], rewards, features, units=units)


def _widened(values: Floats, wide: int) -> Floats:
    """With more columns of 0."""
    more = [(0, 0), (0, wide - values.shape[1]), *[(0, 0)] * (values.ndim - 2)]
    return np.pad(values.astype(np.float64), more)
