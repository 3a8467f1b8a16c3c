"""Draws between the live model and canaries as decisions: the chance of who answered, and the target's.

A request that fell back to the live model counts for the canary that was drawn: "always that version" would have met
the same failure and fallen back, too. What was not drawn (pinned, one model only) says nothing about a split.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from flywheel.config.offpolicy import PolicyQuestion
from flywheel.statistics.offpolicy import Decisions
from flywheel.statistics.offpolicy_model import cross_fitted
from flywheel.workflow.offpolicy.outcomes import outcomes, scale_of
from flywheel.workflow.offpolicy.ragged import Floats, Ints, numbers, pc
from flywheel.workflow.offpolicy.traffic import Day, Reading

COLUMNS = (
    "model_version", "policy_version", "eligible_variants", "propensity", "assignment", "fallback", "choice_served",
    "choosing", "list_log_propensity",
)  # fmt: skip
Group = tuple[int, tuple[str, ...]]
"""A routing and who was eligible: within it every version has one chance."""


@dataclass
class _Drawn:
    """Columns of all days; ``groups`` and ``arms`` number what the lists name."""

    units: list[Ints] = field(default_factory=list[Ints])
    rewards: list[Floats] = field(default_factory=list[Floats])
    chances: list[Floats] = field(default_factory=list[Floats])
    group: list[Ints] = field(default_factory=list[Ints])
    arm: list[Ints] = field(default_factory=list[Ints])
    groups: dict[Group, int] = field(default_factory=dict[Group, int])
    arms: dict[str, int] = field(default_factory=dict[str, int])


def decisions(reading: Reading) -> Decisions | None:
    """All draws of the days asked for in which every version of the target could be drawn; None: there are none."""
    drawn = _Drawn()
    for day in reading.days(columns=COLUMNS):
        _add(drawn, day, reading)
    return _joined(drawn, reading.question) if drawn.units else None


def _add(drawn: _Drawn, day: Day, reading: Reading) -> None:
    left_out, question = reading.left_out, reading.question
    rows = left_out.keep(day.rows, pc.is_null(day.rows["list_log_propensity"]), "ranked_list")
    rows = left_out.keep(
        rows, pc.is_in(rows["assignment"], value_set=pa.array(["random", "fallback"])), "no_draw_between_models"
    )
    arms, chances, eligible = _draws(rows)
    several = np.array([len(names) > 1 for names in eligible], dtype=np.bool_)
    able = np.array([set(question.variants()) <= set(names) for names in eligible], dtype=np.bool_)
    rewards = outcomes(rows, day.reactions, question.outcome)
    said = np.isfinite(rewards) | (not question.outcome.leaves_out())
    kept = rows
    good = np.ones(len(rows), dtype=np.bool_)
    for fits, reason in (
        (several, "no_draw_between_models"),
        (able, "target_was_not_eligible"),
        (chances > 0, "no_chance_logged"),
        (said, "no_reaction"),
    ):
        kept = left_out.keep(kept, fits[good], reason)
        good &= fits
    if not len(kept):
        return
    places = np.flatnonzero(good)
    policies = numbers(kept["policy_version"]).astype(np.int64).tolist()
    named = [(policy, tuple(sorted(eligible[at]))) for policy, at in zip(policies, places, strict=True)]
    drawn.units.append(reading.people.of(kept))
    drawn.rewards.append(np.nan_to_num(rewards[good]))
    drawn.chances.append(chances[good])
    drawn.group.append(np.array([drawn.groups.setdefault(one, len(drawn.groups)) for one in named]))
    drawn.arm.append(np.array([drawn.arms.setdefault(arms[at], len(drawn.arms)) for at in places]))


def _draws(rows: pa.Table) -> tuple[list[str], Floats, list[list[str]]]:
    """Who was drawn, with what chance, among whom."""
    fell = pc.equal(rows["assignment"], "fallback")

    def drawn(name: str, column: str) -> pa.ChunkedArray:
        return pc.if_else(fell, pc.struct_field(rows["fallback"], name), rows[column])

    arms = drawn("assigned", "model_version").to_pylist()
    chances = np.nan_to_num(numbers(drawn("propensity", "propensity")))
    eligible = [names or [] for names in drawn("eligible", "eligible_variants").to_pylist()]
    return arms, chances, eligible


def _joined(drawn: _Drawn, question: PolicyQuestion) -> Decisions:
    rewards, chances = np.concatenate(drawn.rewards), np.concatenate(drawn.chances)
    units, group, arm = np.concatenate(drawn.units), np.concatenate(drawn.group), np.concatenate(drawn.arm)
    wanted = question.variants()
    for name in wanted:
        drawn.arms.setdefault(name, len(drawn.arms))
    target = np.array([wanted.get(name, 0.0) for name in drawn.arms])
    scale = scale_of(question.outcome)
    predicted = _predicted(arm, len(drawn.arms), rewards, units)
    return Decisions(
        weights=target[arm] / chances,
        rewards=rewards,
        units=units,
        served=None if predicted is None else predicted[np.arange(arm.size), arm],
        expected=None if predicted is None else predicted @ target,
        moments=_moments(drawn, group, arm, chances, wanted=wanted),
        low=scale.low,
        high=scale.high,
    )


def _moments(
    drawn: _Drawn, group: Ints, arm: Ints, chances: Floats, *, wanted: dict[str, float]
) -> tuple[Floats, Floats] | None:
    """Mean squared and cubed weight of each draw; None where the chance of a version of the target is never seen.

    A row names the chance of who answered. Others of its group are in other rows, and of one that never answered it is
    what the others leave.
    """
    known: dict[int, dict[int, float]] = defaultdict(dict)
    pairs, first = np.unique(np.column_stack([group, arm]), axis=0, return_index=True)
    for (one, version), at in zip(pairs.tolist(), first.tolist(), strict=True):
        known[one][version] = float(chances[at])
    found = np.zeros((2, len(drawn.groups)))
    for (_, eligible), number in drawn.groups.items():
        here = known[number]
        absent = [name for name in eligible if drawn.arms.get(name) not in here]
        if len(absent) == 1:
            here[drawn.arms.setdefault(absent[0], len(drawn.arms))] = max(1 - sum(here.values()), 1e-12)
        for name, share in wanted.items():
            if share and drawn.arms[name] not in here:
                return None
            if share:
                ratio = share / here[drawn.arms[name]]
                found[:, number] += share * ratio, share * ratio**2
    return found[0][group], found[1][group]


def _predicted(arm: Ints, arms: int, rewards: Floats, units: Ints) -> Floats | None:
    """(rows, versions): each version's mean outcome among other people, drawn towards the mean of all."""
    if np.unique(units).size < 2:
        return None
    every = np.eye(arms)
    wanted = np.broadcast_to(every, (arm.size, arms, arms))
    return cross_fitted(every[arm], rewards, wanted, units=units)
