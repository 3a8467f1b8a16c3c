"""Where the segments of one index lie, and which of them count: compare-and-swap on a numbered manifest.

``index/near/<flow>/<parameters>/segments/<n>-<random>.bin`` is written first, ``manifests/<n>.json`` then, if absent:
of two writers that saw the same state one wins, and the other looks again. A writer that was killed in between leaves
a segment that no manifest names; the next one removes it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection
from typing import Final, NamedTuple

from flywheel.errors import BusyError, NotFoundInLakeError
from flywheel.index.segments import DamagedSegmentError, Segment, decode, encode, stripped
from flywheel.lake.store import ObjectStore

ROOT: Final = "index/near"
_LOOKS: Final = 5
BUSY: Final = "Other turns of this flow change the near-duplicate index all the time; run the command again."


class Stored(NamedTuple):
    """What a manifest names: its number (0: there is none yet), segments in order; or the damage that voids it."""

    n: int
    names: list[str]
    segments: list[Segment]
    damaged: list[str]


class IndexFiles:
    """The objects of one index."""

    def __init__(self, store: ObjectStore, flow: str, parameters: str) -> None:
        self._store = store
        self._base = f"{ROOT}/{flow}/{parameters}"

    def read(self) -> Stored:
        """The newest state. Links cross segments, so a damaged or missing one voids the others, too.

        Raises:
            BusyError: others replaced it at every look.
        """
        for _ in range(_LOOKS):
            newest = self._newest()
            if newest == 0:
                return Stored(0, [], [], [])
            try:
                names: list[str] = json.loads(self._store.get(self._manifest(newest)))["segments"]
            except NotFoundInLakeError:
                continue  # replaced meanwhile
            except (ValueError, KeyError, TypeError):
                return Stored(newest, [], [], [self._manifest(newest)])
            segments, damaged = self._segments(names)
            if not damaged:
                return Stored(newest, names, segments, [])
            if self._newest() == newest:
                return Stored(newest, [], [], damaged)
        raise BusyError(BUSY)

    def commit(self, seen: Stored, added: Segment, *, replace: bool) -> bool:
        """Add a segment to the state that was ``seen``, or put it in its place. False: somebody else was faster."""
        n = seen.n + 1
        name = f"{self._base}/segments/{n:08d}-{uuid.uuid4().hex}.bin"
        self._store.put_if_absent(name, encode(added))
        names = [name] if replace else [*seen.names, name]
        if not self._store.put_if_absent(self._manifest(n), json.dumps({"segments": names}).encode()):
            self._store.delete([name])
            return False
        self._tidy(n, names)
        return True

    def _tidy(self, n: int, names: Collection[str]) -> None:
        """Remove older manifests and segments that none names; later writers' are left alone."""
        old = [key for key in self._store.list(f"{self._base}/manifests") if _number(key) < n]
        unnamed = [key for key in self._store.list(f"{self._base}/segments") if key not in names and _number(key) <= n]
        self._store.delete([*old, *unnamed])

    def _segments(self, names: list[str]) -> tuple[list[Segment], list[str]]:
        segments, damaged = list[Segment](), list[str]()
        for name in names:
            try:
                segments.append(decode(self._store.get(name), name))
            except (NotFoundInLakeError, DamagedSegmentError):
                damaged.append(name)
        return segments, damaged

    def _newest(self) -> int:
        return max(map(_number, self._store.list(f"{self._base}/manifests")), default=0)

    def _manifest(self, n: int) -> str:
        return f"{self._base}/manifests/{n:08d}.json"


def erase_rows(store: ObjectStore, gone: Collection[str], *, dry: bool = False) -> int:
    """Remove rows from every near-duplicate index of a lake, those that no manifest names included.

    A damaged segment may hold them and cannot be looked into: it is deleted, and the next turn builds the index anew.

    Args:
        store: the lake's objects.
        gone: ids of the rows.
        dry: only count.

    Returns:
        How many entries went.
    """
    removed = 0
    for key in store.list(ROOT):
        if "/segments/" not in key:
            continue
        try:
            removed += store.strip(key, stripped(gone, key), dry=dry)
        except DamagedSegmentError:
            if not dry:
                store.delete([key])
    return removed


def _number(key: str) -> int:
    return int(key.rsplit("/", 1)[-1][:8])
