"""Reactions as one number a row, or one a place of a list. Higher is better."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from flywheel.config.offpolicy import OutcomeConfig
from flywheel.workflow.offpolicy.ragged import Floats, Ints, lengths, numbers, pc, row_and_place


@dataclass(frozen=True)
class Scale:
    """What an outcome of a kind can be."""

    low: float
    high: float


SCALES = {
    "thumbs": Scale(-1, 1),
    "abandon": Scale(-1, 0),
    "reprompt": Scale(-1, 0),
    "correction": Scale(-1, 0),
}
_UNIT = Scale(0, 1)


def scale_of(outcome: OutcomeConfig) -> Scale:
    """The range of outcomes."""
    return SCALES.get(outcome.kind, _UNIT)


def outcomes(rows: pa.Table, reactions: pa.Table, outcome: OutcomeConfig) -> Floats:
    """One a row; NaN where nobody reacted.

    Of statements (thumbs, ratings) each person's last word counts, and several people's are averaged. Dwell is summed,
    for completion the largest share counts, and other events count once.

    Args:
        rows: with ``inference_id``, ``choice_served`` and ``choosing``.
        reactions: of the outcome's kind.
        outcome: what counts.
    """
    about = _about_served(rows, reactions, outcome)
    place = _integers(about, "row")
    found = np.full(len(rows), np.nan)
    if not len(place):
        return found
    values = numbers(about["value"])
    if outcome.kind in ("thumbs", "rating"):
        return _statements(about, place, values, len(rows), rating=outcome.kind == "rating")
    if outcome.kind == "dwell":
        spent = np.bincount(place, weights=np.nan_to_num(values), minlength=len(rows))
        spent = np.minimum(spent / (1_000 * outcome.dwell_cap_s), 1)
        return np.where(np.bincount(place, minlength=len(rows)) > 0, spent, np.nan)
    worth = np.nan_to_num(values, nan=1.0) if outcome.kind == "completion" else np.ones(len(place))
    best = np.full(len(rows), -np.inf)
    np.maximum.at(best, place, np.clip(worth, 0, 1))
    sign = -1.0 if scale_of(outcome).high == 0 else 1.0
    return np.where(np.isfinite(best), sign * best, np.nan)


def list_outcomes(lists: pa.Table, reactions: pa.Table, outcome: OutcomeConfig, *, places: int) -> Floats:
    """(lists, places): the worth of what was done with the item at each place; 0 where nothing was.

    Args:
        lists: with ``inference_id`` and ``ranking``.
        reactions: of the outcome's kind, with ``items`` (id, rank, action) and ``value``.
        outcome: what an action is worth.
        places: how many count.
    """
    found = np.zeros((len(lists), places))
    about = _joined(lists, reactions)
    if not len(about):
        return found
    items = about["items"].combine_chunks()
    of_list = np.repeat(_integers(about, "row"), lengths(items))
    done = pc.list_flatten(items)
    worth = _worth(pc.struct_field(done, "action"), outcome)
    shown, place = _shown(lists)
    standing = pc.index_in(_keys(of_list, pc.struct_field(done, "id")), value_set=shown)
    known = (worth > 0) & pc.is_valid(standing).to_numpy(zero_copy_only=False)
    where = place[np.nan_to_num(numbers(standing)).astype(np.int64)[known]]
    _put(found, of_list[known], where, worth[known])
    if outcome.kind == "click":  # a click without items names the place itself, from 0
        bare = about.filter(pa.array(lengths(items) == 0))
        value = numbers(bare["value"])
        named = np.isfinite(value)
        _put(found, _integers(bare, "row")[named], value[named].astype(np.int64), np.ones(int(named.sum())))
    return found


def _shown(lists: pa.Table) -> tuple[pa.Array, Ints]:
    """Keys of all items that were shown, list by list, and their places from 0."""
    items = pc.list_flatten(lists["ranking"].combine_chunks())
    owner, _ = row_and_place(lengths(lists["ranking"]))
    rank = numbers(pc.struct_field(items, "rank"))
    up = np.isfinite(rank)
    ids = pc.struct_field(items, "id").filter(pa.array(up))
    return _keys(owner[up], ids), rank[up].astype(np.int64) - 1


def _joined(rows: pa.Table, reactions: pa.Table) -> pa.Table:
    """Reactions to these rows, with the number of the row."""
    at = pc.index_in(reactions["inference_id"], value_set=rows["inference_id"].combine_chunks())
    return reactions.append_column("row", at).filter(pc.is_valid(at))


def _about_served(rows: pa.Table, reactions: pa.Table, outcome: OutcomeConfig) -> pa.Table:
    """Reactions to the served answers, as ``Inference.rated_choice`` has it: of best-of-n the client got one."""
    about = _joined(rows, reactions)
    if outcome.kind == "correction":
        return about
    place, index = _integers(about, "row"), np.nan_to_num(numbers(about["choice_index"]))
    served = np.nan_to_num(numbers(rows["choice_served"]))[place]
    chosen = pc.is_valid(rows["choosing"]).to_numpy()[place]
    return about.filter(pa.array((index == served) | (chosen & (index == 0))))


def _put(found: Floats, rows: Ints, where: Ints, worth: Floats) -> None:
    inside = where < found.shape[1]
    np.maximum.at(found, (rows[inside], where[inside]), worth[inside])


def _worth(actions: pa.Array, outcome: OutcomeConfig) -> Floats:
    """0 for an item that was only shown, or whose action is worth nothing."""
    if not outcome.actions:
        return pc.is_valid(actions).to_numpy(zero_copy_only=False).astype(np.float64)
    names = pa.array(list(outcome.actions), pa.string())
    at = np.asarray(pc.fill_null(pc.index_in(actions, value_set=names), len(names))).astype(np.int64)
    return np.array([*outcome.actions.values(), 0.0])[at]


def _keys(owner: Ints, ids: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise(pc.cast(pa.array(owner), pa.string()), pc.fill_null(ids, ""), "\x1f")


def _statements(about: pa.Table, place: Ints, values: Floats, rows: int, *, rating: bool) -> Floats:
    """Mean over people of each person's last statement."""
    order = about.append_column("at", pa.array(np.arange(len(about)))).sort_by(
        [("ts", "ascending"), ("feedback_id", "ascending")]
    )["at"]
    order = np.asarray(order)
    people = pc.dictionary_encode(about["subject"].combine_chunks()).indices.to_numpy()
    said = place[order] * (int(people.max(initial=0)) + 1) + people[order]
    _, last = np.unique(said[::-1], return_index=True)
    chosen = order[::-1][last]
    counted = (values[chosen] - 1) / 4 if rating else values[chosen]
    known = np.isfinite(counted)
    total = np.bincount(place[chosen][known], weights=np.clip(counted[known], -1, 1), minlength=rows)
    voices = np.bincount(place[chosen][known], minlength=rows)
    return np.divide(total, voices, out=np.full(rows, np.nan), where=voices > 0)


def _integers(table: pa.Table, name: str) -> Ints:
    return table[name].to_numpy().astype(np.int64)
