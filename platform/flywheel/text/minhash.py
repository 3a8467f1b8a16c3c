"""Groups of near-duplicate texts: MinHash finds candidates, the exact Jaccard index decides.

Banding after Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", section 3.4: with b bands of r
rows, a pair of similarity s shares a band with probability 1 - (1 - s^r)^b. Two shared bands are asked for: with
p = s^r a pair shares fewer with probability (1 - p)^b + b p (1 - p)^(b - 1). Pairs far below the threshold hardly ever
share two.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import rensa  # pyright: ignore[reportMissingTypeStubs]

from flywheel.text.joining import BUCKET, join
from flywheel.text.normalise import normalise
from flywheel.text.shingles import SHINGLE, ShingleSets, blocks, number_shingles

PERMUTATIONS: Final = 144
"""At the most, except for thresholds so low that even bands of one row need more."""
MISS: Final = 1e-6
"""Chance that a pair exactly at the threshold is never looked at."""
ALGORITHM: Final = f"rensa-{cast('Any', rensa).RMinHash.ALGORITHM_VERSION}/shingles-1/bands-2"
"""What stored keys depend on besides the threshold: keys of another algorithm can be compared with nothing."""

Keys = npt.NDArray[np.uint32]
_SEED: Final = 7
_AT_ONCE: Final = 64  # rows whose digests pass through Python objects together; more are slower
_BLOCK: Final = 4_096


class Banding(NamedTuple):
    """``bands`` keys a text, each made of ``rows`` minima."""

    rows: int
    bands: int


def shingles(text: str) -> frozenset[str]:
    """Character 5-grams of the normal form; a shorter text is one shingle of its own."""
    normal = normalise(text)
    if len(normal) <= SHINGLE:
        return frozenset({normal} if normal else ())
    return frozenset(normal[i : i + SHINGLE] for i in range(len(normal) - SHINGLE + 1))


def jaccard(a: str, b: str) -> float:
    """Jaccard index of the shingles of two texts, in [0, 1]; two empty texts are equal (1.0)."""
    return jaccard_of(shingles(a), shingles(b))


def jaccard_of(a: frozenset[str], b: frozenset[str]) -> float:
    """Jaccard index of two sets of shingles, in [0, 1]; two empty ones are equal (1.0)."""
    shared = len(a & b)
    total = len(a) + len(b) - shared
    return shared / total if total else 1.0


def near_duplicate_groups(texts: Sequence[str], threshold: float, *, bucket: int = BUCKET) -> list[int]:
    """Put texts of Jaccard index at least ``threshold`` into one group, transitively.

    Args:
        texts: any texts, empty ones included.
        threshold: in (0, 1].
        bucket: texts that share a band and are all compared; of a larger bucket those that share more (``joining``).

    Returns:
        One group id a text: the index of the group's first text, so ``groups[i] == i`` marks the one to keep.

    A pair below the threshold never joins two groups; a pair at it is missed with probability ``MISS``, or where
    all the bands that it shares are those of hot buckets.

    Raises:
        ValueError: the threshold is outside (0, 1].
    """
    check_threshold(threshold)
    first: dict[str, int] = {}
    original = [first.setdefault(normalise(text), index) for index, text in enumerate(texts)]
    normals = list(first)
    root = _equal(normals) if threshold == 1 else join(normals, band_keys(normals, threshold), threshold, bucket).root
    homes = list(first.values())
    groups: list[int] = root.tolist()
    home = {own: homes[group] for own, group in zip(homes, groups, strict=True)}
    return [home[index] for index in original]


def check_threshold(threshold: float) -> None:
    """Raise ValueError for a threshold that no Jaccard index can be compared with."""
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold {threshold} must be above 0 and at most 1")


def banding(threshold: float) -> Banding:
    """Most selective bands within ``PERMUTATIONS`` that miss a pair at the threshold with probability ``MISS``."""
    found = Banding(1, _bands(threshold, 1))
    for rows in range(2, 17):
        bands = _bands(threshold, rows)
        if rows * bands > PERMUTATIONS:
            break
        found = Banding(rows, bands)
    return found


def band_keys(normals: Sequence[str], threshold: float) -> Keys:
    """One row of keys a text, one key a band; texts that share a key of a band may be similar.

    Args:
        normals: texts in their normal form. Empty ones share all keys with each other.
        threshold: decides the bands (``banding``); keys of two thresholds must not be compared.

    The same in every process and release, as long as ``ALGORITHM`` is.
    """
    rows, bands = banding(threshold)
    mixer = np.random.default_rng(_SEED).integers(0, 2**63, size=rows, dtype=np.uint64) | np.uint64(1)
    keys = np.empty((len(normals), bands), dtype=np.uint32)
    for start in range(0, len(normals), _BLOCK):
        digests = _digests(normals[start : start + _BLOCK], rows * bands)
        # A random linear form of a band's rows is its key: a chance collision only adds a pair to compare.
        mixed = (digests.reshape(-1, bands, rows).astype(np.uint64) * mixer).sum(axis=2, dtype=np.uint64)
        keys[start : start + _BLOCK] = mixed >> np.uint64(32)
    return keys


def _bands(threshold: float, rows: int) -> int:
    sure = threshold**rows
    bands = 2
    while bands <= PERMUTATIONS * 8 and (1 - sure) ** (bands - 1) * (1 - sure + bands * sure) > MISS:
        bands += 1
    return bands


def _digests(normals: Sequence[str], permutations: int) -> Keys:
    numbers, offsets = number_shingles(normals)
    pack = struct.Struct(f"{permutations}I").pack
    packed: list[bytes] = []
    for start in range(0, len(normals), _AT_ONCE):
        own = offsets[start : start + _AT_ONCE + 1]
        matrix: Any = cast("Any", rensa).RMinHash.digest_matrix_from_flat_token_hashes(
            numbers[own[0] : own[-1]], own - own[0], permutations, _SEED
        )
        packed += [pack(*row) for row in matrix.to_rows()]
    return np.frombuffer(b"".join(packed), dtype=np.uint32).reshape(-1, permutations)


def _equal(normals: Sequence[str]) -> npt.NDArray[np.int64]:
    """Of every text the first one with the same set of shingles."""
    lengths = np.fromiter(map(len, normals), dtype=np.int64, count=len(normals))
    first: dict[bytes, int] = {}
    root: list[int] = []
    for start, end in blocks(lengths, 1 << 20):
        sets = ShingleSets(normals[start:end])
        digests = (hashlib.blake2b(sets.packed(place), digest_size=32).digest() for place in range(end - start))
        root += [first.setdefault(digest, start + place) for place, digest in enumerate(digests)]
    return np.array(root, dtype=np.int64)
