"""Items of a list as numbers, the same in training and while a user waits. Pure numpy.

Numbers become a standardised value, hinges at quantiles (so that more is not always better), and whether they are
there at all. Words of the text, short texts among the features and, if wanted, the item's id are hashed: no vocabulary
is stored, so a ranker's file repeats nobody's words. Of what was asked, the share of its words that the item's text has
counts. What depends on the person (how near an item is to their interests, say) belongs into the features that the
product sends.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from flywheel.records import Message, Record
from flywheel.text.words import words

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

MAX_TEXT = 2_000
"""Characters of an item's text that are read."""
MAX_NUMBERS = 256
LEAST_SHARE = 0.01
"""A number that fewer items have is not learnt about."""
KNOTS = (0.2, 0.4, 0.6, 0.8)
FAR = 5.0
"""Standard deviations past which a number counts as that far: one typo must not decide a list."""


class Item(NamedTuple):
    """What is known of an item when a list is ranked."""

    id: str
    text: str
    features: Mapping[str, Any]
    asked: frozenset[str] = frozenset()
    """Words of the request's last message."""


class Number(Record):
    """A feature that is a number (or yes and no): its scale, and the standardised places of its hinges."""

    name: str
    mean: float
    scale: float
    knots: list[float]


class ItemFeatures(Record):
    """How items are read. Made once from the items that are learnt from, and kept with the weights."""

    numbers: list[Number]
    buckets: int = Field(ge=1)
    ids: bool

    @property
    def width(self) -> int:
        """Columns of the dense part."""
        return 1 + sum(2 + len(number.knots) for number in self.numbers)


class Encoded(NamedTuple):
    """``dense`` is (items, width); hashed feature j of item ``owner[j]`` is ``bucket[j]`` with value ``value[j]``."""

    dense: Floats
    owner: Indices
    bucket: Indices
    value: Floats


def asked_words(messages: Sequence[Message]) -> frozenset[str]:
    """The words of the last message of a conversation."""
    return frozenset(words(messages[-1].content[:MAX_TEXT])) if messages else frozenset()


def learn_features(items: Sequence[Item], *, buckets: int, ids: bool) -> ItemFeatures:
    """Which numbers there are, and their scales."""
    seen = Counter(name for item in items for name, value in item.features.items() if _is_number(value))
    names = sorted(name for name, count in seen.most_common(MAX_NUMBERS) if count >= LEAST_SHARE * len(items))
    return ItemFeatures(numbers=[_number(name, items) for name in names], buckets=buckets, ids=ids)


def encode(features: ItemFeatures, items: Sequence[Item]) -> Encoded:
    """Items as numbers, in their order."""
    dense = np.zeros((len(items), features.width))
    dense[:, 0] = [_overlap(item) for item in items]
    column = 1
    for number in features.numbers:
        values = _column(number.name, items)
        there = ~np.isnan(values)
        scaled = np.clip((np.where(there, values, number.mean) - number.mean) / number.scale, -FAR, FAR)
        dense[:, column] = ~there
        dense[:, column + 1] = scaled
        for place, knot in enumerate(number.knots, start=column + 2):
            dense[:, place] = np.maximum(scaled - knot, 0.0) * there
        column += 2 + len(number.knots)
    found = [_hashed(item, features) for item in items]
    sizes = [len(some) for some in found]
    pairs = [pair for some in found for pair in some]
    return Encoded(
        dense,
        np.repeat(np.arange(len(items)), sizes),
        np.array([bucket for bucket, _ in pairs], dtype=np.int64),
        np.array([value for _, value in pairs], dtype=np.float64),
    )


def _number(name: str, items: Sequence[Item]) -> Number:
    values = _column(name, items)
    values = values[~np.isnan(values)]
    mean, spread = float(values.mean()), float(values.std())
    scale = spread if spread > 0 else 1.0
    scaled = (values - mean) / scale
    yes_or_no = np.unique(scaled).size <= 2
    knots = [] if yes_or_no else sorted({round(float(knot), 6) for knot in np.quantile(scaled, KNOTS)})
    return Number(name=name, mean=mean, scale=scale, knots=knots)


def _column(name: str, items: Sequence[Item]) -> Floats:
    given: list[Any] = [item.features.get(name) for item in items]
    return np.array([float(value) if _is_number(value) else np.nan for value in given])


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float)


def _overlap(item: Item) -> float:
    return len(item.asked & _words(item.text[:MAX_TEXT])) / len(item.asked) if item.asked else 0.0


def _hashed(item: Item, features: ItemFeatures) -> list[tuple[int, float]]:
    told = [f"f\x1f{name}\x1f{value}" for name, value in item.features.items() if isinstance(value, str)]
    if features.ids:
        told.append(f"i\x1f{item.id}")
    said = _words(item.text[:MAX_TEXT])
    weight = len(said) ** -0.5 if said else 0.0  # a long text says no more than a short one
    return [
        *_buckets(told, 1.0, features.buckets),
        *_buckets((f"w\x1f{word}" for word in sorted(said)), weight, features.buckets),
    ]


def _buckets(told: Iterable[str], value: float, buckets: int) -> list[tuple[int, float]]:
    return [(zlib.crc32(text.encode("utf-8", "surrogatepass")) % buckets, value) for text in told]


@lru_cache(maxsize=4_096)
def _words(text: str) -> frozenset[str]:
    return frozenset(words(text))
