"""Which of the texts that share band keys are similar enough, and what groups that makes.

Comparing every pair of a bucket is quadratic, so:

* everything is first compared with the first text of its bucket, which joins dense groups in linear time;
* pairs of texts that are in one group already are never compared;
* a hot bucket (a boilerplate prompt, say) is split by the key of the next band, again and again, as the trees of an
  LSH forest grow where it is crowded (Bawa, Condie, Ganesan, "LSH Forest", WWW 2005): its pairs must then agree in
  more bands to be compared. Very similar ones do, and those that do not meet in their other bands as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from flywheel.text.shingles import Places, ShingleSets

BUCKET: Final = 256
"""Texts in a bucket that are all compared with each other."""
_DEPTH: Final = 4  # keys of that many bands at the most decide about one hot bucket
_PAIRS: Final = 1 << 16  # compared before it is looked again at which groups have merged
_HELD: Final = 1 << 21  # pairs listed at once
_SHARED: Final = 2  # bands that a pair must share to be compared (``minhash.banding`` counts on it)

Flags = npt.NDArray[np.bool_]


@dataclass
class Hot:
    """What was capped: buckets larger than the limit, texts in them, and pairs not compared for their sake."""

    buckets: int = 0
    texts: int = 0
    pairs: int = 0


class Joined(NamedTuple):
    """``root[i]`` is the smallest index of the group of i; ``left`` and ``right`` the pairs that made the groups."""

    root: Places
    left: Places
    right: Places
    hot: Hot


def join(
    normals: Sequence[str],
    keys: npt.NDArray[np.uint32],
    threshold: float,
    bucket: int = BUCKET,
    *,
    known: Places | None = None,
) -> Joined:
    """Groups of texts of Jaccard index at least ``threshold``, transitively.

    Args:
        normals: texts in their normal form.
        keys: one row a text, one column a band.
        threshold: in (0, 1).
        bucket: texts of one bucket that are all compared.
        known: the first texts were compared with each other before: their groups, each named by its smallest index.
    """
    buckets = _Buckets.of(keys)
    work = _Work(normals, keys, np.unique(buckets.members), threshold, known, len(keys))
    hot = Hot()
    work.compare(buckets.stars())
    buckets = buckets.mixed(work.root)
    for depth in range(1, _DEPTH):
        calm, crowded = buckets.parted(bucket)
        if not crowded.members.size:
            break
        if depth == 1:
            hot.buckets, hot.texts = crowded.sizes.size, np.unique(crowded.members).size
        split = crowded.split(keys, depth)
        hot.pairs += crowded.pairs() - split.pairs()
        work.compare(split.stars())
        buckets = calm.plus(split.mixed(work.root))
    work.sweep(buckets, bucket)
    hot.pairs += buckets.mixed(work.root).beyond(bucket)
    left, right = (np.concatenate([np.empty(0, dtype=np.int64), *side]) for side in (work.left, work.right))
    return Joined(work.root, left, right, hot)


class _Pairs(NamedTuple):
    left: Places
    right: Places


class _Buckets:
    """Texts that share a key, bucket after bucket, in ascending order within each."""

    def __init__(self, members: Places, sizes: Places, bands: Places) -> None:
        self.members, self.sizes, self.bands = members, sizes, bands
        self.begins = np.cumsum(sizes) - sizes

    @classmethod
    def of(cls, keys: npt.NDArray[np.uint32]) -> _Buckets:
        made = [_Buckets._runs(np.arange(len(keys)), keys[:, band], band) for band in range(keys.shape[1])]
        return _concatenated([_Buckets(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64)), *made])

    @staticmethod
    def _runs(members: Places, values: npt.NDArray[Any], band: int) -> _Buckets:
        order = np.argsort(values, kind="stable")
        ordered = values[order]
        begins = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])[: order.size])
        sizes = np.diff(np.append(begins, order.size))
        several = sizes > 1
        kept = members[order][np.repeat(several, sizes)]
        return _Buckets(kept, sizes[several], np.full(int(several.sum()), band))

    def only(self, wanted: Flags) -> _Buckets:
        return _Buckets(self.members[np.repeat(wanted, self.sizes)], self.sizes[wanted], self.bands[wanted])

    def plus(self, other: _Buckets) -> _Buckets:
        return _concatenated([self, other])

    def parted(self, most: int) -> tuple[_Buckets, _Buckets]:
        """Those of at most ``most`` texts, and the larger ones."""
        return self.only(self.sizes <= most), self.only(self.sizes > most)

    def mixed(self, root: Places) -> _Buckets:
        """Those that hold more than one group."""
        if not self.sizes.size:
            return self
        roots = root[self.members]
        return self.only(np.minimum.reduceat(roots, self.begins) != np.maximum.reduceat(roots, self.begins))

    def split(self, keys: npt.NDArray[np.uint32], depth: int) -> _Buckets:
        """Smaller ones: members must agree in the band ``depth`` places further on as well."""
        parts: list[_Buckets] = [self.only(np.zeros(self.sizes.size, dtype=np.bool_))]
        for begin, size, band in zip(self.begins.tolist(), self.sizes.tolist(), self.bands.tolist(), strict=True):
            members = self.members[begin : begin + size]
            parts.append(_Buckets._runs(members, keys[members, (band + depth) % keys.shape[1]], band))
        return _concatenated(parts)

    def pairs(self) -> int:
        return int((self.sizes * (self.sizes - 1) // 2).sum())

    def beyond(self, most: int) -> int:
        """Pairs that lie further apart than a sweep of ``most`` looks."""
        rest = np.maximum(self.sizes - most, 0)
        return int((rest * (rest - 1) // 2).sum())

    def stars(self) -> _Pairs:
        """Everything with the first of its bucket."""
        first = np.repeat(self.members[self.begins], self.sizes)
        others = first != self.members
        return _Pairs(first[others], self.members[others])

    def at_distances(self, near: int, far: int) -> Iterator[_Pairs]:
        """Pairs of one bucket that stand ``near`` to ``far - 1`` places apart, in portions."""
        held: list[_Pairs] = []
        here = self
        for distance in range(near, far):
            here = here.only(here.sizes > distance)
            if not here.sizes.size:
                break
            last = np.repeat(here.begins + here.sizes - distance, here.sizes)
            start = np.flatnonzero(np.arange(here.members.size) < last)
            held.append(_Pairs(here.members[start], here.members[start + distance]))
            if sum(pairs.left.size for pairs in held) > _HELD:
                yield _Pairs(*(np.concatenate(side) for side in zip(*held, strict=True)))
                held = []
        if held:
            yield _Pairs(*(np.concatenate(side) for side in zip(*held, strict=True)))


def _concatenated(parts: Sequence[_Buckets]) -> _Buckets:
    columns = ([getattr(part, name) for part in parts] for name in ("members", "sizes", "bands"))
    return _Buckets(*map(np.concatenate, columns))


@dataclass
class _Work:
    """Groups as they grow, and the pairs that are known not to be similar."""

    normals: Sequence[str]
    keys: npt.NDArray[np.uint32]
    wanted: Places
    threshold: float
    known: Places | None
    count: int
    left: list[Places] = field(default_factory=list[Places])
    right: list[Places] = field(default_factory=list[Places])
    refused: list[Places] = field(default_factory=list[Places])

    def __post_init__(self) -> None:
        self.root: Places = np.arange(self.count)
        self.old = 0 if self.known is None else self.known.size
        if self.known is not None:
            self.root[: self.old] = self.known
        self._place = np.zeros(self.count, dtype=np.int64)
        self._place[self.wanted] = np.arange(self.wanted.size)
        places: list[int] = self.wanted.tolist()
        self._sets = ShingleSets([self.normals[place] for place in places])

    def sweep(self, buckets: _Buckets, most: int) -> None:
        """Compare the other pairs of each bucket, near ones first, as long as they are in different groups."""
        near = 1
        while buckets.members.size and near <= most:
            far = min(2 * near, most + 1)
            for pairs in buckets.at_distances(near, far):
                self.compare(pairs)
            buckets, near = buckets.mixed(self.root), far
            buckets = buckets.only(buckets.sizes > near)

    def compare(self, pairs: _Pairs) -> None:
        """Join the groups of the pairs that are similar."""
        left, right = self._open(np.minimum(pairs.left, pairs.right), np.maximum(pairs.left, pairs.right))
        codes = np.unique(left * self.count + right)
        for refused in self.refused:
            place = np.minimum(np.searchsorted(refused, codes), refused.size - 1)
            codes = codes[refused[place] != codes]
        refusals: list[Places] = []
        for start in range(0, codes.size, _PAIRS):
            left, right = self._open(*np.divmod(codes[start : start + _PAIRS], self.count))
            shared = (self.keys[left] == self.keys[right]).sum(axis=1) >= _SHARED
            left, right = left[shared], right[shared]
            similar = self._sets.jaccards(self._place[left], self._place[right]) >= self.threshold
            self._merge(left[similar], right[similar])
            refusals.append(left[~similar] * self.count + right[~similar])
        if sum(map(len, refusals)):
            self.refused.append(np.concatenate(refusals))  # codes are ascending, so these are

    def _open(self, left: Places, right: Places) -> tuple[Places, Places]:
        """Pairs of two groups of which not both texts are known."""
        wanted = (self.root[left] != self.root[right]) & (right >= self.old)
        return left[wanted], right[wanted]

    def _merge(self, left: Places, right: Places) -> None:
        if not left.size:
            return
        self.left.append(left)
        self.right.append(right)
        names, places = np.unique(np.concatenate([self.root[left], self.root[right]]), return_inverse=True)
        to = np.arange(self.count)
        to[names] = names[_components(names.size, places[: left.size], places[left.size :])]
        self.root = to[self.root]


def _components(count: int, left: Places, right: Places) -> Places:
    """Of every node the smallest one that it is linked with."""
    from scipy import sparse  # pyright: ignore[reportMissingTypeStubs]
    from scipy.sparse import csgraph  # pyright: ignore[reportMissingTypeStubs]

    links: Any = cast("Any", sparse).coo_array((np.ones(left.size, dtype=np.int8), (left, right)), shape=(count, count))
    parts, label = cast("Any", csgraph).connected_components(links, directed=False)
    smallest = np.full(int(parts), count)
    np.minimum.at(smallest, label, np.arange(count))
    return smallest[label]
