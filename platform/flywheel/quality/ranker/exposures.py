"""Shown items as rows to learn from: what was seen at which place, what was done, and how much the row weighs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flywheel.config.ranker import EngagementRankerConfig
from flywheel.inference.item_features import Item
from flywheel.quality.ranker.lists import RankedList, kept, ranked_lists
from flywheel.quality.ranker.seen import Seen, reports
from flywheel.statistics.examination import Examination, examination
from flywheel.statistics.place_chances import Floats, Indices

Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Exposures:
    """Items that were on screen, row by row.

    Attributes:
        lists: ids of the lists, in the order of ``owner``.
        people: of each list.
        owner: of each row, its list.
        items: as a ranker reads them.
        places: from 0.
        weights: see ``RankedList.weights``; 1 where nothing is corrected.
        drawn: whether the list was a random one with known chances.
        actions: every name that feedback gave.
        done: (rows, actions).
        silent: lists of which nobody reported what was on screen, and which are not in here.
    """

    lists: list[str]
    people: list[str]
    owner: Indices
    items: list[Item]
    places: Indices
    weights: Floats
    drawn: Booleans
    actions: list[str]
    done: Booleans
    silent: int

    def happened(self, action: str) -> Booleans:
        """Whether ``action`` was done, row by row."""
        return self.done[:, self.actions.index(action)]

    def looks(self) -> Examination:
        """How often each place is looked at: by all drawn lists, and any action."""
        acted: Booleans = np.any(self.done, axis=1)
        return examination(self.places[self.drawn], acted[self.drawn], self.weights[self.drawn])


def exposures(
    inferences: pa.Table, feedback: pa.Table, *, allowed: Collection[str], config: EngagementRankerConfig
) -> Exposures:
    """Join the tables.

    Args:
        inferences: the columns of ``lists.COLUMNS``, and more.
        feedback: the table.
        allowed: ids of the inferences that may be learnt from now.
        config: what counts as seen, and how much.
    """
    reported = reports(feedback, allowed)
    lists = ranked_lists(inferences, allowed=allowed, reported=reported)
    told = [one for one in lists if config.exposure == "all" or _told(reported.get(one.inference_id, {}))]
    used = kept(told, newest=config.max_lists, per_person=config.max_per_person)
    rows = [
        (number, one, place, index, seen)
        for number, one in enumerate(used)
        for place, index in enumerate(one.shown)
        if (seen := _seen(reported.get(one.inference_id, {}), one.items[index]["id"], config)) is not None
    ]
    weights = [one.weights(config.max_weight) for one in used]
    done = [seen.done(config) for *_, seen in rows]
    names = sorted({name for some in done for name in some})
    return Exposures(
        lists=[one.inference_id for one in used],
        people=[one.subject for one in used],
        owner=np.array([number for number, *_ in rows], dtype=np.intp),
        items=[one.item(index) for _, one, _, index, _ in rows],
        places=np.array([place for _, _, place, _, _ in rows], dtype=np.intp),
        weights=np.array([weights[number][place] for number, _, place, _, _ in rows]),
        drawn=np.array([bool(one.chances) for _, one, _, _, _ in rows], dtype=np.bool_),
        actions=names,
        done=np.array([[name in some for name in names] for some in done], dtype=np.bool_).reshape(
            len(rows), len(names)
        ),
        silent=len(lists) - len(told),
    )


def _told(items: Mapping[str, Seen]) -> bool:
    """Whether a report says what was on screen. One of actions alone says what was done, and of nothing left alone."""
    return any(seen.shown_ms > 0 for seen in items.values())


def rewards(
    lists: Sequence[RankedList], reported: Mapping[str, Mapping[str, Seen]], config: EngagementRankerConfig
) -> list[list[float]]:
    """What each place of each list earned: the value of what was done there; 0 where nothing was."""
    return [
        [_worth(reported.get(one.inference_id, {}).get(one.items[index]["id"]), config) for index in one.shown]
        for one in lists
    ]


def _worth(seen: Seen | None, config: EngagementRankerConfig) -> float:
    return 0.0 if seen is None else sum(config.weights.get(name, 0.0) for name in sorted(seen.done(config)))


def _seen(reported: Mapping[str, Seen], item: str, config: EngagementRankerConfig) -> Seen | None:
    seen = reported.get(item)
    if config.exposure == "all":
        return seen or Seen()
    on_screen = seen is not None and (seen.shown_ms > 0 or bool(seen.done(config)))
    return seen if on_screen else None
