"""Ranked lists out of the lake's tables: which may be used, and how likely their orders were."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flywheel.inference.item_features import Item, asked_words
from flywheel.lake.codec import decode_column
from flywheel.records import TRAFFIC, Inference, Message
from flywheel.statistics.place_chances import Floats, place_chances
from flywheel.statistics.policies import Policy
from flywheel.text.hashing import stable_hash

COLUMNS = (
    "inference_id",
    "subject",
    "ts",
    "consent",
    "traffic_kind",
    "messages",
    "ranking",
    "choosing",
    "shadow_scores",
)
"""Of ``inferences``, that are needed here."""
UNKNOWN = float("nan")


@dataclass(frozen=True)
class RankedList:
    """One list as it was drawn.

    Attributes:
        items: as the row has them.
        shown: indices of ``items``, the top first.
        asked: words of the request's last message.
        policy: what drew it; None: it was sent as it is, or without scores, and nothing can be said of chances.
        scores: that drew it, one an item.
        chances: of each shown item at its place; empty without a policy.
        shadows: version of a ranker in the shadow -> its scores; None: it gave none.
    """

    inference_id: str
    subject: str
    items: list[dict[str, Any]]
    shown: list[int]
    asked: frozenset[str]
    policy: Policy | None
    scores: list[float]
    chances: list[float]
    shadows: dict[str, list[float] | None]

    def item(self, index: int) -> Item:
        """One item as a ranker reads it."""
        item = self.items[index]
        return Item(item["id"], item["text"] or "", json.loads(item["features"] or "{}"), self.asked)

    def weights(self, largest: float) -> list[float]:
        """Chance of each shown item's place in a uniform list over the chance it had; 1 where nobody knows."""
        if not self.chances:
            return [1.0] * len(self.shown)
        return [min(largest, 1 / (len(self.items) * chance)) for chance in self.chances]


def ranked_lists(inferences: pa.Table, *, allowed: Collection[str], reported: Collection[str]) -> list[RankedList]:
    """The lists among the ``allowed`` rows, oldest first.

    A request that was retried is one list: the one that feedback is about (``reported``), else the last.
    """
    rows = inferences.filter(_filled_lists(inferences["ranking"]))
    known = pc.field("inference_id").isin(pa.array(sorted(allowed), pa.string()))
    rows = rows.filter(known & (pc.field("traffic_kind").isin(TRAFFIC))).sort_by(
        [("ts", "ascending"), ("inference_id", "ascending")]
    )
    messages = decode_column(rows["messages"], Inference, "messages")
    found: dict[tuple[str, str], RankedList] = {}
    for row, said in zip(rows.drop_columns(["messages"]).to_pylist(), messages, strict=True):
        one = _read(row, said or [])
        key = one.subject, (row["choosing"] or {}).get("request_key_hash") or one.inference_id
        if key not in found or one.inference_id in reported or found[key].inference_id not in reported:
            found[key] = one
    lists = list(found.values())
    drawn = shown_chances(lists, [one.scores for one in lists])
    return [replace(one, chances=_filled(one.chances, own)) for one, own in zip(lists, drawn, strict=True)]


def shown_chances(lists: Sequence[RankedList], scores: Sequence[Sequence[float]]) -> list[list[float]]:
    """The chance of each shown item at its place if ``scores`` had drawn the list by the list's own policy.

    Empty where there is no policy. Lists of one shape and policy are done together.
    """
    found: list[list[float]] = [[] for _ in lists]
    groups: dict[tuple[int, int, Policy], list[int]] = {}
    for number, one in enumerate(lists):
        if one.policy is not None:
            groups.setdefault((len(one.items), len(one.shown), one.policy), []).append(number)
    for (_, _, policy), numbers in groups.items():
        table: Floats = np.array([scores[number] for number in numbers], dtype=np.float64)
        shown = np.array([lists[number].shown for number in numbers], dtype=np.intp)
        for number, row in zip(numbers, place_chances(table, shown, policy), strict=True):
            found[number] = row.tolist()
    return found


def kept(lists: Sequence[RankedList], *, newest: int, per_person: int) -> list[RankedList]:
    """At most so many lists of one person, drawn by hash, and of these the newest."""
    by_person: dict[str, list[str]] = {}
    for one in lists:
        by_person.setdefault(one.subject, []).append(one.inference_id)
    chosen = {
        row
        for own in by_person.values()
        for row in sorted(own, key=lambda row: stable_hash("ranker", row))[:per_person]
    }
    return [one for one in lists if one.inference_id in chosen][-newest:]


def _filled_lists(column: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Rows whose list is there and not empty."""
    sizes: Any = pc.call_function("list_value_length", [column])
    return np.nan_to_num(sizes.to_numpy()) > 0  # null is NaN here


def _read(row: dict[str, Any], said: Sequence[dict[str, Any]]) -> RankedList:
    ranking = row["ranking"]
    shown = [
        index for _, index in sorted((item["rank"], at) for at, item in enumerate(ranking) if item["rank"] is not None)
    ]
    policy, scores = _policy(row["choosing"] or {}), [item["score"] for item in ranking]
    if None in scores or not shown:
        policy = None
    logged = [ranking[index]["position_propensity"] for index in shown]
    return RankedList(
        inference_id=row["inference_id"],
        subject=row["subject"],
        items=ranking,
        shown=shown,
        asked=asked_words([Message.model_validate(one) for one in said[-1:]]),
        policy=policy,
        scores=scores if policy is not None else [],
        chances=[UNKNOWN if chance is None else chance for chance in logged] if policy is not None else [],
        shadows={one["version"]: one["scores"] or None for one in row["shadow_scores"] or []},
    )


def _policy(choosing: dict[str, Any]) -> Policy | None:
    if choosing.get("policy") in {None, "given"} or choosing.get("fallback") is not None:
        return None
    policy = Policy(choosing["temperature"], choosing["epsilon"])
    return policy if policy.temperature > 0 or policy.epsilon > 0 else None  # the best first, always: nothing was tried


def _filled(logged: Sequence[float], drawn: Sequence[float]) -> list[float]:
    """What the gateway logged is exact; elsewhere an average over drawn lists takes its place."""
    return [new if math.isnan(old) else old for old, new in zip(logged, drawn, strict=True)]
