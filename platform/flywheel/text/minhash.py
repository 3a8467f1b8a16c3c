"""Groups of near-duplicate texts: MinHash finds candidates, the exact Jaccard index decides.

Banding after Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", section 3.4: with b bands of r
rows, a pair of similarity s shares a band with probability 1 - (1 - s^r)^b.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import rensa  # pyright: ignore[reportMissingTypeStubs]

from flywheel.text.normalise import normalise

SHINGLE = 5
PERMUTATIONS = 256
MISS = 1e-6
"""Chance that a pair exactly at the threshold is never looked at."""

Ints = npt.NDArray[np.int64]
_SEED = 7
_BLOCK = 512  # how much is done between two looks at which groups have merged


def shingles(text: str) -> frozenset[str]:
    """Character 5-grams of the normal form; a shorter text is one shingle of its own."""
    normal = normalise(text)
    if len(normal) <= SHINGLE:
        return frozenset({normal} if normal else ())
    return frozenset(normal[i : i + SHINGLE] for i in range(len(normal) - SHINGLE + 1))


def jaccard(a: str, b: str) -> float:
    """Jaccard index of the shingles of two texts, in [0, 1]; two empty texts are equal (1.0)."""
    return jaccard_of(shingles(a), shingles(b))


def near_duplicate_groups(texts: Sequence[str], threshold: float) -> list[int]:
    """Put texts of Jaccard index at least ``threshold`` into one group, transitively.

    Args:
        texts: any texts, empty ones included.
        threshold: in (0, 1].

    Returns:
        One group id a text: the index of the group's first text, so ``groups[i] == i`` marks the one to keep.

    A pair below the threshold never joins two groups; a pair at it is missed with probability ``MISS``.

    Raises:
        ValueError: the threshold is outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold {threshold} must be above 0 and at most 1")
    first: dict[frozenset[str], int] = {}
    original = [first.setdefault(shingles(text), index) for index, text in enumerate(texts)]
    items: list[frozenset[str]] = list(first)
    homes = np.array(list(first.values()), dtype=np.int64)
    filled = np.array([place for place, item in enumerate(items) if item], dtype=np.int64)
    group = np.arange(len(items))
    if threshold < 1 and filled.size:  # at 1 only equal shingle sets match, and those are merged already
        group[filled] = filled[_Corpus([item for item in items if item], threshold).groups()]
    home = dict(zip(homes.tolist(), homes[group].tolist(), strict=True))
    return [home[index] for index in original]


def jaccard_of(a: frozenset[str], b: frozenset[str]) -> float:
    """Jaccard index of two sets of shingles, in [0, 1]; two empty ones are equal (1.0)."""
    shared = len(a & b)
    total = len(a) + len(b) - shared
    return shared / total if total else 1.0


def rows_per_band(threshold: float) -> int:
    """Most selective banding that still misses a pair at the threshold with probability at most ``MISS``."""
    rows = 1
    for candidate in range(2, 17):
        if (1 - threshold**candidate) ** (PERMUTATIONS // candidate) > MISS:
            break
        rows = candidate
    return rows


def _true(flags: npt.NDArray[np.bool_]) -> list[int]:
    return np.flatnonzero(flags).tolist()


class _Corpus:
    """Distinct, non-empty shingle sets as one flat array of shingle ids, and their buckets in every band."""

    def __init__(self, items: Sequence[frozenset[str]], threshold: float) -> None:
        self._threshold = threshold
        ids: dict[str, int] = {}
        self._flat = np.array([ids.setdefault(shingle, len(ids)) for item in items for shingle in item], dtype=np.int64)
        self._sizes = np.array([len(item) for item in items], dtype=np.int64)
        self._offsets = np.cumsum(self._sizes) - self._sizes
        self._mark = np.zeros(len(ids), dtype=np.bool_)
        self._bands = [_Band(keys) for keys in band_keys(items, rows_per_band(threshold))]
        self._root = np.arange(len(items))

    def groups(self) -> Ints:
        """For every item the smallest index of its group."""
        self._join_with_first()
        count = self._root.size
        for start in range(0, count, _BLOCK):
            mixed = np.array([band.mixed(self._root) for band in self._bands])
            for item in _true(np.logical_or.reduce(mixed[:, start : start + _BLOCK])):
                found = [self._bands[band].earlier(start + item) for band in _true(mixed[:, start + item])]
                mates = np.concatenate(found)
                self._join(start + item, np.unique(mates[self._root[mates] != self._root[start + item]]))
        return self._root

    def _join_with_first(self) -> None:
        """Compare every item with the first of its bucket only: dense groups are joined in linear time."""
        mates: dict[int, set[int]] = {}
        for band in self._bands:
            for item, first in zip(*band.with_first(), strict=True):
                mates.setdefault(first, set()).add(item)
        for first, others in mates.items():
            self._join(first, np.array(sorted(others), dtype=np.int64))

    def _join(self, item: int, mates: Ints) -> None:
        """Put ``item`` and those of ``mates`` that are similar to it into one group."""
        root = self._root
        mates = mates[root[mates] != root[item]]
        while mates.size:
            similar = mates[:_BLOCK][self._jaccards(item, mates[:_BLOCK]) >= self._threshold]
            mates = mates[_BLOCK:]
            if similar.size:  # joined groups need no further comparison with this item
                joined = np.unique(np.append(root[similar], root[item]))
                root[np.isin(root, joined)] = joined[0]
                mates = mates[root[mates] != root[item]]

    def _jaccards(self, item: int, others: Ints) -> npt.NDArray[np.float64]:
        """Exact Jaccard index of one item with each of the others."""
        mine = self._flat[self._offsets[item] : self._offsets[item] + self._sizes[item]]
        sizes = self._sizes[others]
        starts = np.cumsum(sizes) - sizes
        theirs = self._flat[np.repeat(self._offsets[others] - starts, sizes) + np.arange(int(sizes.sum()))]
        self._mark[mine] = True
        shared = np.add.reduceat(self._mark[theirs].astype(np.int64), starts)
        self._mark[mine] = False
        return shared / (mine.size + sizes - shared)


class _Band:
    """Items that agree in one band of the sketch share a bucket."""

    def __init__(self, keys: npt.NDArray[np.uint64]) -> None:
        _, bucket, counts = np.unique(keys, return_inverse=True, return_counts=True)
        self._bucket: Ints = bucket.astype(np.int64)
        self._begins: Ints = (np.cumsum(counts) - counts).astype(np.int64)
        self._order: Ints = np.argsort(bucket, kind="stable").astype(np.int64)  # bucket by bucket, ascending

    def mixed(self, root: Ints) -> npt.NDArray[np.bool_]:
        """For every item, whether its bucket holds more than one group."""
        roots = root[self._order]
        several = np.minimum.reduceat(roots, self._begins) != np.maximum.reduceat(roots, self._begins)
        return several[self._bucket]

    def earlier(self, item: int) -> Ints:
        """Items with a smaller index in the bucket of ``item``."""
        bucket = self._bucket[item]
        end = self._begins[bucket + 1] if bucket + 1 < self._begins.size else self._order.size
        members = self._order[self._begins[bucket] : end]
        return members[: int(np.searchsorted(members, item))]

    def with_first(self) -> tuple[list[int], list[int]]:
        """Items that are not the first of their bucket, and those firsts."""
        first = self._order[self._begins][self._bucket]
        later = np.flatnonzero(first != np.arange(first.size))
        return later.tolist(), first[later].tolist()


def band_keys(items: Sequence[frozenset[str]], rows: int) -> list[npt.NDArray[np.uint64]]:
    """For every band of ``rows`` rows, one key an item; items that share a key of a band may be similar."""
    if not items:
        return []
    tokens = [[shingle.encode("utf-8", "surrogatepass") for shingle in item] for item in items]
    matrix = cast("Any", rensa).RMinHash.digest_matrix_from_token_byte_sets(tokens, PERMUTATIONS, _SEED)
    digests: npt.NDArray[np.uint64] = np.array(matrix.to_rows(), dtype=np.uint64)
    # A random linear form of a band's rows is its key: a chance collision only adds a pair to compare.
    mixer = np.random.default_rng(_SEED).integers(0, 2**63, size=rows, dtype=np.uint64) | np.uint64(1)
    return [
        (digests[:, start : start + rows] * mixer).sum(axis=1, dtype=np.uint64)
        for start in range(0, PERMUTATIONS - rows + 1, rows)
    ]
