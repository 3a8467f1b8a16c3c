"""Character shingles of many texts at once, as numbers: equal shingles have one number, others have others.

Five letters of most alphabets fit into 60 bits, so their number *is* the shingle and counting numbers is counting
shingles, exactly. Where a letter is beyond U+0FFE (Chinese, Japanese, emoji), the number is a 62-bit hash: two texts of
1,000 shingles each then have a chance of 10^-13 that one shingle too many counts as shared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, cast

import numpy as np
import numpy.typing as npt

SHINGLE: Final = 5
Numbers = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]

_LETTER_BITS: Final = 12
_WIDE: Final = 1 << _LETTER_BITS  # letters from here on do not fit
_HASHED: Final = 1 << 62
_MASK: Final = np.uint64((1 << 63) - 1)
_FACTORS: Final = np.random.default_rng(11).integers(0, 2**63, size=SHINGLE + 2, dtype=np.uint64) | np.uint64(1)
_BLOCK_LETTERS: Final = 1 << 16
"""Letters worked on at once: the arrays in between stay in the processor's cache."""


class Shingled(NamedTuple):
    """Shingles of several texts, one after another: those of text i are ``numbers[offsets[i]:offsets[i + 1]]``."""

    numbers: Numbers
    offsets: Places


def number_shingles(normals: Sequence[str]) -> Shingled:
    """Every 5-gram of every text in reading order, repeated ones included; a shorter text is one shingle of its own.

    Args:
        normals: texts in their normal form; an empty one has no shingle.
    """
    lengths = np.fromiter(map(len, normals), dtype=np.int64, count=len(normals))
    counts = np.where(lengths >= SHINGLE, lengths - SHINGLE + 1, (lengths > 0).astype(np.int64))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    numbers = np.empty(int(offsets[-1]), dtype=np.uint64)
    for start, end in blocks(lengths, _BLOCK_LETTERS):
        _number_block(normals[start:end], lengths[start:end], numbers[offsets[start] : offsets[end]])
    return Shingled(numbers, offsets)


def blocks(sizes: Places, most: int) -> Iterator[tuple[int, int]]:
    """Cut a row of things into stretches of about ``most`` in total, none empty."""
    ends = np.cumsum(sizes)
    start = 0
    while start < sizes.size:
        done = int(ends[start - 1]) if start else 0
        end = max(start + 1, int(np.searchsorted(ends, done + most, side="right")))
        yield start, end
        start = end


def _number_block(normals: Sequence[str], lengths: Places, out: Numbers) -> None:
    """Letters count from 1, so that 0 can fill a short text up to five."""
    letters = np.frombuffer("".join(normals).encode("utf-32-le", "surrogatepass"), dtype=np.uint32) + np.uint32(1)
    short = np.flatnonzero((lengths > 0) & (lengths < SHINGLE))
    ends = np.cumsum(lengths)
    if short.size:
        missing = SHINGLE - lengths[short]
        letters = np.insert(letters, np.repeat(ends[short], missing), np.uint32(0))
        lengths = lengths.copy()
        lengths[short] = SHINGLE
        ends = np.cumsum(lengths)
    if not out.size:
        return
    counts = np.where(lengths > 0, lengths - SHINGLE + 1, 0)
    inside = np.arange(out.size) + np.repeat((ends - lengths) - (np.cumsum(counts) - counts), counts)
    np.take(_windows(letters), inside, out=out)


def _windows(letters: npt.NDArray[np.uint32]) -> Numbers:
    """The number of the five letters from every place on, mixed so that all bits look random. One to one on 63 bits."""
    size = letters.size - SHINGLE + 1
    wide = letters.astype(np.uint64)
    packed = wide[:size].copy()
    for place in range(1, SHINGLE):
        packed |= wide[place : place + size] << np.uint64(_LETTER_BITS * place)
    if int(letters.max()) >= _WIDE:
        _hash_wide(letters, wide, packed)
    packed *= _FACTORS[-1]
    packed &= _MASK
    packed ^= packed >> np.uint64(31)
    packed *= _FACTORS[-2]
    packed &= _MASK
    packed ^= packed >> np.uint64(29)
    return packed


def _hash_wide(letters: npt.NDArray[np.uint32], wide: Numbers, packed: Numbers) -> None:
    size = packed.size
    flags = letters >= _WIDE
    hashed = np.flatnonzero(np.logical_or.reduce([flags[place : place + size] for place in range(SHINGLE)]))
    total = np.zeros(hashed.size, dtype=np.uint64)
    for place in range(SHINGLE):
        total = (total ^ wide[hashed + place]) * _FACTORS[place]
        total ^= total >> np.uint64(32)
    packed[hashed] = total >> np.uint64(2) | np.uint64(_HASHED)


class ShingleSets:
    """The distinct shingles of some texts, for counting what pairs of them share."""

    def __init__(self, normals: Sequence[str]) -> None:
        from scipy import sparse  # pyright: ignore[reportMissingTypeStubs]

        shingled = number_shingles(normals)
        numbers, offsets = shingled.numbers, shingled.offsets
        keep = np.empty(numbers.size, dtype=np.bool_)
        for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
            own = numbers[start:end]
            own.sort()
            keep[start : start + 1] = True
            np.not_equal(own[1:], own[:-1], out=keep[start + 1 : end])
        ends = np.concatenate([[0], np.cumsum(keep)])[offsets]
        values = numbers[keep].view(np.int64)
        self.sizes: Places = np.diff(ends)
        shape = (len(normals), np.iinfo(np.int64).max)
        ones = np.ones(values.size, dtype=np.int8)
        # Sorted and without repeats: scipy then merges rows, and needs no memory of the width of the matrix.
        self._rows: Any = cast("Any", sparse).csr_array((ones, values, ends), shape=shape)

    def jaccards(self, left: Places, right: Places) -> npt.NDArray[np.float64]:
        """Jaccard index of the texts at ``left[i]`` and ``right[i]``, in [0, 1]; of two empty ones 1.0."""
        sizes = self.sizes[left] + self.sizes[right]
        shared = np.zeros(left.size, dtype=np.int64)
        for start, end in blocks(sizes, _BLOCK_LETTERS * 16):
            both = self._rows[left[start:end]].multiply(self._rows[right[start:end]])
            shared[start:end] = np.diff(both.indptr)
        total = sizes - shared
        return np.where(total > 0, shared / np.maximum(total, 1), 1.0)

    def packed(self, place: int) -> bytes:
        """What is equal for equal sets, and only for them."""
        return self._rows.indices[self._rows.indptr[place] : self._rows.indptr[place + 1]].tobytes()
