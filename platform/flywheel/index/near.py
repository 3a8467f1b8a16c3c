"""Near-duplicates among rows that mostly were there last time: a turn pays for the rows that are new.

Two things are kept of rows. *Links* are pairs that were compared and are similar. *Labels* say which rows may be in one
group at all: they are merged when rows are joined and never split, so that similar rows have the same label whatever
became of the rows between them. A group of some rows is then what their links connect; where rows of one label are not
all connected (a row in between is filtered out, or was erased), just those are compared again. So the groups are those
of ``near_duplicate_groups`` over the same texts.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from flywheel.errors import BusyError
from flywheel.index.files import BUSY, IndexFiles, Stored
from flywheel.index.segments import Keys, Segment
from flywheel.lake.manifests import content_id
from flywheel.lake.store import ObjectStore
from flywheel.text.joining import BUCKET, Hot, join
from flywheel.text.minhash import ALGORITHM, band_keys, banding, check_threshold, near_duplicate_groups
from flywheel.text.normalise import normalise

_ATTEMPTS: Final = 20
_SEGMENTS: Final = 8
"""More than these are merged into one."""


@dataclass
class Counts:
    """What one update did."""

    computed: int = 0
    reused: int = 0
    removed: int = 0
    hot: Hot = field(default_factory=Hot)
    rebuilt: list[str] = field(default_factory=list[str])
    """Damaged segments, because of which all was computed again."""


class Groups:
    """Near-duplicates among the rows of an update, and among any part of them."""

    def __init__(
        self, texts: Mapping[str, str], labels: Mapping[str, int], links: Mapping[str, set[str]], threshold: float,
        counts: Counts,
    ) -> None:  # fmt: skip
        self._texts, self._labels, self._links, self._threshold = texts, labels, links, threshold
        self.counts = counts

    def of(self, ids: Sequence[str]) -> list[int]:
        """For each row the place in ``ids`` of the first row of its group, as ``near_duplicate_groups`` gives it."""
        place = {identity: number for number, identity in enumerate(ids)}
        group = _Union(len(ids))
        of_label: dict[int, list[int]] = defaultdict(list)
        for number, identity in enumerate(ids):
            of_label[self._labels[identity]].append(number)
            for other in self._links.get(identity, ()):
                if other in place:
                    group.join(number, place[other])
        open_ = [own for own in of_label.values() if len(own) > 1 and len(set(map(group.find, own))) > 1]
        again = sorted(number for own in open_ for number in own)
        found = near_duplicate_groups([self._texts[ids[number]] for number in again], self._threshold)
        for number, first in zip(again, found, strict=True):
            group.join(number, again[first])
        return [group.find(number) for number in range(len(ids))]


class NearDuplicateIndex:
    """The index of one flow and threshold. Any number of processes may use it at once."""

    def __init__(self, store: ObjectStore, flow: str, threshold: float, *, bucket: int = BUCKET) -> None:
        """Open it; there need not be anything yet.

        Args:
            store: the lake's objects, on a folder or S3.
            flow: whose rows.
            threshold: least Jaccard index of near-duplicates, in (0, 1].
            bucket: rows of one bucket that are all compared (``text.joining``).

        Raises:
            ValueError: the threshold is outside (0, 1].
        """
        check_threshold(threshold)
        parameters = content_id("near", ALGORITHM, threshold, banding(threshold))
        self._files = IndexFiles(store, flow, parameters)
        self._threshold, self._bucket = threshold, bucket

    def update(self, texts: Mapping[str, str]) -> Groups:
        """Make the index that of exactly these rows: new and changed ones are added, those not named leave it.

        Args:
            texts: row id -> text.

        Raises:
            BusyError: others changed the index all the time.
        """
        for _ in range(_ATTEMPTS):
            stored = self._files.read()
            state = _State.of(stored)
            digests = {identity: _digest(text) for identity, text in texts.items()}
            same = {identity for identity, digest in digests.items() if state.digest(identity) == digest}
            new = [identity for identity in texts if identity not in same]
            gone = [identity for identity in state.place if identity not in same]
            added, hot = self._added(state, texts, new, [identity for identity in texts if identity in same])
            added = Segment(
                new, np.array([digests[identity] for identity in new], dtype=np.uint64), added.labels, added.keys,
                added.links, gone, added.merged,
            )  # fmt: skip
            if (new or gone or stored.damaged) and not self._commit(stored, state, added):
                continue
            state.apply(added)
            counts = Counts(len(new), len(same), len(gone), hot, stored.damaged)
            return Groups(texts, state.labels(), state.links, self._threshold, counts)
        raise BusyError(BUSY)

    def _commit(self, stored: Stored, state: _State, added: Segment) -> bool:
        if stored.n == 0 or stored.damaged or len(stored.names) < _SEGMENTS:
            return self._files.commit(stored, added, replace=bool(stored.damaged))
        whole = state.copy()
        whole.apply(added)
        return self._files.commit(stored, whole.segment(), replace=True)

    def _added(
        self, state: _State, texts: Mapping[str, str], new: Sequence[str], same: Sequence[str]
    ) -> tuple[Segment, Hot]:
        """Keys, links and labels of the new rows."""
        normals = [normalise(texts[identity]) for identity in new]
        keys = band_keys(normals, self._threshold)
        old = state.sharing(keys, same)
        known = state.groups(old)
        joined = join(
            [*(normalise(texts[identity]) for identity in old), *normals],
            np.concatenate([state.keys_of(old, keys.shape[1]), keys]),
            self._threshold,
            self._bucket,
            known=known,
        )
        names = [*old, *new]
        links = [(names[one], names[two]) for one, two in zip(joined.left.tolist(), joined.right.tolist(), strict=True)]
        labels, merged = _labels(joined.root, [state.label(identity) for identity in old])
        empty = np.empty(0, dtype=np.uint64)
        return Segment([], empty, labels[len(old) :], keys, links, [], merged), joined.hot


def _labels(root: npt.NDArray[np.int64], old: Sequence[int]) -> tuple[npt.NDArray[np.int64], list[tuple[int, int]]]:
    """A label for every row, and which old labels are joined. New ones are random: two writers make no equal ones."""
    label: dict[int, int] = {}
    merged: list[tuple[int, int]] = []
    made: list[int] = []
    for place, group in enumerate(root.tolist()):
        own = old[place] if place < len(old) else label.get(group, -1)
        own = secrets.randbits(62) if own < 0 else own
        first = label.setdefault(group, own)
        if first != own:
            merged.append((first, own))
        made.append(first)
    return np.array(made, dtype=np.int64), sorted(set(merged))


class _State:
    """The index in memory: the segments, one after another."""

    def __init__(self) -> None:
        self.place: dict[str, tuple[int, int]] = {}
        self.links: dict[str, set[str]] = {}
        self._segments: list[Segment] = []
        self._same: dict[int, int] = {}

    @classmethod
    def of(cls, stored: Stored) -> _State:
        state = cls()
        for segment in stored.segments:
            state.apply(segment)
        return state

    def copy(self) -> _State:
        """One that can be changed by itself."""
        state = _State()
        for segment in self._segments:
            state.apply(segment)
        return state

    def apply(self, segment: Segment) -> None:
        number = len(self._segments)
        self._segments.append(segment)
        for identity in segment.removed:
            self.place.pop(identity, None)
            for other in self.links.pop(identity, ()):
                self.links[other].discard(identity)
        self.place.update((identity, (number, row)) for row, identity in enumerate(segment.ids))
        for one, two in segment.links:
            self.links.setdefault(one, set()).add(two)
            self.links.setdefault(two, set()).add(one)
        for one, two in segment.merged:
            first, second = sorted((self._find(one), self._find(two)))
            if first != second:  # one segment may say it twice, in both directions: nothing is its own successor
                self._same[second] = first

    def digest(self, identity: str) -> int | None:
        where = self.place.get(identity)
        return None if where is None else int(self._segments[where[0]].digests[where[1]])

    def label(self, identity: str) -> int:
        number, row = self.place[identity]
        return self._find(int(self._segments[number].labels[row]))

    def labels(self) -> dict[str, int]:
        plain = [segment.labels.tolist() for segment in self._segments]
        return {identity: self._find(plain[number][row]) for identity, (number, row) in self.place.items()}

    def sharing(self, keys: Keys, among: Sequence[str]) -> list[str]:
        """Those of some rows that share a key with a row of ``keys``."""
        hits = [_sharing(segment.keys, keys) for segment in self._segments]
        return [identity for identity in among if hits[self.place[identity][0]][self.place[identity][1]]]

    def keys_of(self, ids: Sequence[str], bands: int) -> Keys:
        found = np.empty((len(ids), bands), dtype=np.uint32)
        for number, identity in enumerate(ids):
            segment, row = self.place[identity]
            found[number] = self._segments[segment].keys[row]
        return found

    def groups(self, ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """Of each row the first of ``ids`` that it is linked with through others of them."""
        place = {identity: number for number, identity in enumerate(ids)}
        group = _Union(len(ids))
        for identity, number in place.items():
            for other in self.links.get(identity, ()):
                if other in place:
                    group.join(number, place[other])
        return np.array([group.find(number) for number in range(len(ids))], dtype=np.int64)

    def segment(self) -> Segment:
        """All of it as one segment."""
        ids = list(self.place)
        where = [self.place[identity] for identity in ids]
        digests = [self._segments[number].digests[row] for number, row in where]
        links = [(one, two) for one, others in self.links.items() for two in others if one < two]
        bands = self._segments[0].keys.shape[1]
        labels = np.array([self.label(identity) for identity in ids], dtype=np.int64)
        return Segment(ids, np.array(digests, dtype=np.uint64), labels, self.keys_of(ids, bands), links)

    def _find(self, label: int) -> int:
        while label in self._same:
            label = self._same[label]
        return label


def _sharing(known: Keys, keys: Keys) -> npt.NDArray[np.bool_]:
    """Rows of ``known`` that share a key with one of ``keys``; a table of the upper 20 bits spares most the search."""
    hits = np.zeros(len(known), dtype=np.bool_)
    for band in range(keys.shape[1] if len(keys) else 0):
        wanted = np.unique(keys[:, band])
        table = np.zeros(1 << 20, dtype=np.bool_)
        table[wanted >> np.uint32(12)] = True
        column = known[:, band]
        rows = np.flatnonzero(table[column >> np.uint32(12)])
        found = wanted[np.minimum(np.searchsorted(wanted, column[rows]), wanted.size - 1)]
        hits[rows[found == column[rows]]] = True
    return hits


class _Union:
    """Disjoint sets of places, each named by its smallest."""

    def __init__(self, count: int) -> None:
        self._up = list(range(count))

    def find(self, place: int) -> int:
        up = self._up
        while up[place] != place:
            up[place] = up[up[place]]
            place = up[place]
        return place

    def join(self, one: int, two: int) -> None:
        one, two = self.find(one), self.find(two)
        self._up[max(one, two)] = min(one, two)


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
