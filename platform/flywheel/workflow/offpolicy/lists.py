"""Ranked lists with what was done at each place, seen by a target policy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from flywheel.statistics.offpolicy_lists import Lists
from flywheel.statistics.offpolicy_places import place_chances
from flywheel.statistics.offpolicy_policies import draw_orders, prefix_log_chances
from flywheel.statistics.policies import Policy
from flywheel.workflow.offpolicy.choices import policy_of, target_scores
from flywheel.workflow.offpolicy.outcomes import list_outcomes
from flywheel.workflow.offpolicy.ragged import Bools, Floats, Ints, lengths, numbers, padded, pc, row_and_place
from flywheel.workflow.offpolicy.scores import Scores, read_scores
from flywheel.workflow.offpolicy.traffic import Day, LeftOut, Reading

COLUMNS = ("ranking", "list_log_propensity", "choosing")
_TOLERANCE = 1e-6


@dataclass
class _Part:
    """Lists of one day, cut to ``places``."""

    units: Ints
    rewards: Floats
    logged: Floats
    target: Floats
    shown: Bools
    unsupported: Floats
    logged_places: Floats | None
    target_places: Floats | None
    drawn: Floats


@dataclass(frozen=True)
class _Shape:
    """Items of lists: padded scores, who is there, and which item stands at each place (-1: no such place)."""

    scores: Floats
    there: Bools
    order: Ints


def lists(reading: Reading) -> tuple[Lists, float] | None:
    """All usable lists of the days asked for, and the share of the target's that could not be; None: there are none."""
    question = reading.question
    ranker = read_scores(question.scores) if question.scores is not None else None
    days = reading.days(columns=COLUMNS, reactions=["items"])
    parts = [part for day in days if (part := _part(day, reading, ranker)) is not None]
    return _joined(parts) if parts else None


def _part(day: Day, reading: Reading, ranker: Scores | None) -> _Part | None:
    left_out = reading.left_out
    rows = left_out.keep(day.rows, pc.is_valid(day.rows["list_log_propensity"]), "no_ranked_list")
    rows = left_out.keep(rows, pc.is_null(pc.struct_field(rows["choosing"], "fallback")), "ranker_was_missing")
    if not len(rows):
        return None
    rows = rows.append_column("scores", _field(rows["ranking"], "score"))
    rows, theirs = target_scores(rows, "scores", ranker, left_out)
    rows, shape, true = _checked(rows, left_out)
    if not len(rows):
        return None
    wanted, _ = padded(_flat(theirs.filter(pa.array(true))), lengths(rows["ranking"]))
    return _seen(rows, shape, wanted, day.reactions, reading)


def _checked(rows: pa.Table, left_out: LeftOut) -> tuple[pa.Table, _Shape, Bools]:
    """Lists whose logged chance is that of the policy that the row names."""
    sizes = lengths(rows["ranking"])
    mine, there = padded(_flat(rows["scores"].combine_chunks()), sizes)
    order = _order(numbers(pc.list_flatten(_field(rows["ranking"], "rank"))), sizes)
    whole = (order[:, 0] >= 0) & (np.diff(order >= 0, axis=1) <= 0).all(axis=1)  # no gap, and a top
    logged = _logged(rows["choosing"], _Shape(mine, there, order), whole)
    claimed = numbers(rows["list_log_propensity"])
    true = whole & (np.abs(logged[:, -1] - claimed) <= _TOLERANCE * np.maximum(1, np.abs(claimed)))
    kept = left_out.keep(rows, true, "chance_is_not_that_of_the_policy")
    return kept, _Shape(mine[true], there[true], order[true]), true


def _seen(rows: pa.Table, shape: _Shape, wanted: Floats, reactions: pa.Table, reading: Reading) -> _Part:
    """Both policies' chances of the shown lists, down to the last place that counts."""
    question = reading.question
    cut = _Shape(shape.scores, shape.there, shape.order[:, : question.places])
    asked = _Shape(wanted, shape.there, cut.order)
    policy = policy_of(question)
    rewards = list_outcomes(rows, reactions, question.outcome, places=cut.order.shape[1])
    shown = cut.order >= 0
    drawn = draw_orders(wanted, policy, shown, np.random.default_rng(0), there=cut.there)
    every = np.ones(len(rows), dtype=np.bool_)
    return _Part(
        units=reading.people.of(rows),
        rewards=np.where(shown, rewards, 0.0),
        logged=_logged(rows["choosing"], cut, every),
        target=prefix_log_chances(wanted, policy, cut.order, cut.there),
        shown=shown,
        unsupported=_unsupported(rows["choosing"], cut, asked, policy),
        logged_places=_logged_places(rows["choosing"], cut) if question.by_place else None,
        target_places=place_chances(wanted, policy, cut.order, cut.there) if question.by_place else None,
        drawn=prefix_log_chances(wanted, policy, drawn, cut.there)
        - _logged(rows["choosing"], _Shape(cut.scores, cut.there, drawn), every),
    )


def _unsupported(choosing: pa.ChunkedArray, logged: _Shape, target: _Shape, policy: Policy) -> Floats:
    """Share of the target's lists without a logged chance: there are some where the logged policy was greedy.

    A greedy policy shows one list (scores that tie: several, which are alike to it and not told apart here).
    """
    warm, explores = _policies(choosing)
    greedy = (warm == 0) & (explores == 0)
    found = np.zeros(len(warm))
    if greedy.any():
        chances = prefix_log_chances(target.scores[greedy], policy, target.order[greedy], target.there[greedy])
        mine = prefix_log_chances(logged.scores[greedy], Policy(0.0), logged.order[greedy], logged.there[greedy])
        found[greedy] = np.clip(1 - np.exp(chances[:, -1] - mine[:, -1]), 0, 1)
    return found


def _logged(choosing: pa.ChunkedArray, shape: _Shape, usable: Bools) -> Floats:
    """(lists, places): log chance of each prefix under the policy in each row; NaN where there is none."""
    found = np.full(shape.order.shape, np.nan)
    for policy, same in _each_policy(choosing, usable):
        found[same] = prefix_log_chances(shape.scores[same], policy, shape.order[same], shape.there[same])
    return found


def _logged_places(choosing: pa.ChunkedArray, shape: _Shape) -> Floats:
    found = np.zeros((*shape.order.shape, shape.order.shape[1]))
    for policy, same in _each_policy(choosing, np.ones(len(shape.order), dtype=np.bool_)):
        found[same] = place_chances(shape.scores[same], policy, shape.order[same], shape.there[same])
    return found


def _each_policy(choosing: pa.ChunkedArray, usable: Bools) -> list[tuple[Policy, Bools]]:
    """Policies that were in force, with their rows."""
    warm, explores = _policies(choosing)
    pairs = np.unique(np.column_stack([warm, explores]), axis=0)
    each = [(Policy(float(a), float(b)), usable & (warm == a) & (explores == b)) for a, b in pairs[_finite(pairs)]]
    return [(policy, same) for policy, same in each if same.any()]


def _finite(pairs: Floats) -> Bools:
    return np.asarray(np.isfinite(pairs).all(axis=1))


def _policies(choosing: pa.ChunkedArray) -> tuple[Floats, Floats]:
    temperature, epsilon = (numbers(pc.struct_field(choosing, name)) for name in ("temperature", "epsilon"))
    return temperature, epsilon


def _order(rank: Floats, sizes: Ints) -> Ints:
    """(lists, longest): the item at each place; -1 below the last."""
    rows, item = row_and_place(sizes)
    at = np.where(np.isfinite(rank), rank, 0).astype(np.int64) - 1
    up = (at >= 0) & (at < int(sizes.max(initial=1)))
    found = np.full((sizes.size, int(sizes.max(initial=1))), -1, dtype=np.int64)
    found[rows[up], at[up]] = item[up]
    return found[:, : max(1, int((found >= 0).sum(axis=1).max(initial=1)))]


def _field(items: pa.ChunkedArray, name: str) -> pa.Array:
    """One field of lists of structs, as lists of it."""
    whole = items.combine_chunks()
    offsets = np.concatenate([[0], np.cumsum(lengths(whole))])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pc.struct_field(pc.list_flatten(whole), name))


def _flat(lists_: pa.Array) -> Floats:
    return numbers(pc.list_flatten(lists_))


def _joined(parts: list[_Part]) -> tuple[Lists, float]:
    """Days as one; shorter lists are padded."""
    wide = max(part.shown.shape[1] for part in parts)

    def column(name: str) -> Floats:
        return np.concatenate([_widened(getattr(part, name), wide) for part in parts])

    by_place = all(part.logged_places is not None for part in parts)
    log = Lists(
        rewards=column("rewards"),
        logged=column("logged"),
        target=column("target"),
        shown=column("shown") > 0,
        units=np.concatenate([part.units for part in parts]),
        drawn=column("drawn"),
        logged_places=column("logged_places") if by_place else None,
        target_places=column("target_places") if by_place else None,
    )
    return log, float(np.concatenate([part.unsupported for part in parts]).mean())


def _widened(values: Floats, wide: int) -> Floats:
    """With as many places on every axis of places."""
    more = [(0, 0), *[(0, wide - size) for size in values.shape[1:]]]
    return np.pad(values.astype(np.float64), more)
