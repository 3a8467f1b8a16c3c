"""One stored piece of the near-duplicate index: rows with their keys, and what is known about them.

Bytes: the name of the format, a BLAKE2b digest of all that follows, the length of a JSON head, the head, three arrays.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from flywheel.errors import LakeError
from flywheel.lake.store import Strip

_MAGIC: Final = b"flywheel-near-1\n"
_DIGEST: Final = 32

Keys = npt.NDArray[np.uint32]


class DamagedSegmentError(LakeError):
    """A segment's bytes are not those that were written."""


@dataclass(frozen=True)
class Segment:
    """Rows that one update added. Immutable, but for erasure."""

    ids: list[str]
    digests: npt.NDArray[np.uint64]
    """Of each row's text: a row whose text has changed is another row."""
    labels: npt.NDArray[np.int64]
    """Rows that may be in one group have one label."""
    keys: Keys
    """One row of band keys a row (``text.minhash.band_keys``)."""
    links: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Rows that are similar: compared, and found to be."""
    removed: list[str] = field(default_factory=list[str])
    """Rows of earlier segments that are no longer there, or have another text now."""
    merged: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """Labels that mean the same from here on."""

    def without(self, gone: frozenset[str]) -> Segment:
        """The same without some rows. Labels stay: rows that were similar through one of them may still be."""
        kept = [place for place, identity in enumerate(self.ids) if identity not in gone]
        return replace(
            self,
            ids=[self.ids[place] for place in kept],
            digests=self.digests[kept],
            labels=self.labels[kept],
            keys=self.keys[kept],
            links=[link for link in self.links if gone.isdisjoint(link)],
            removed=[identity for identity in self.removed if identity not in gone],
        )  # fmt: skip


def encode(segment: Segment) -> bytes:
    """The bytes of a segment."""
    head = json.dumps({
        "ids": segment.ids, "bands": segment.keys.shape[1], "links": segment.links,
        "removed": segment.removed, "merged": segment.merged,
    }).encode()  # fmt: skip
    arrays = (segment.digests.astype("<u8"), segment.labels.astype("<i8"), segment.keys.astype("<u4"))
    body = b"".join([len(head).to_bytes(8, "little"), head, *(array.tobytes() for array in arrays)])
    return _MAGIC + _checksum(body) + body


def decode(data: bytes, name: str) -> Segment:
    """The segment of some bytes.

    Args:
        data: what ``encode`` made.
        name: where they come from, for the message.

    Raises:
        DamagedSegmentError: they are not what was written.
    """
    body = data[len(_MAGIC) + _DIGEST :]
    if data[: len(_MAGIC)] != _MAGIC or data[len(_MAGIC) : len(_MAGIC) + _DIGEST] != _checksum(body):
        raise DamagedSegmentError(f"{name} is damaged; it holds nothing that the next turn cannot make again")
    end = 8 + int.from_bytes(body[:8], "little")
    head: dict[str, Any] = json.loads(body[8:end])
    rows, bands = len(head["ids"]), head["bands"]
    digests = np.frombuffer(body, "<u8", rows, end)
    labels = np.frombuffer(body, "<i8", rows, end + 8 * rows)
    keys = np.frombuffer(body, "<u4", rows * bands, end + 16 * rows).reshape(rows, bands)
    links, merged = ([(one, two) for one, two in head[name]] for name in ("links", "merged"))
    return Segment(head["ids"], digests, labels, keys, links, head["removed"], merged)


def stripped(gone: Collection[str], name: str) -> Strip:
    """For ``ObjectStore.strip``: a segment without some rows, and how many entries named one of them."""

    def without(data: bytes) -> tuple[bytes, int]:
        segment = decode(data, name)
        named = {*segment.ids, *segment.removed, *(end for link in segment.links for end in link)} & set(gone)
        return encode(segment.without(frozenset(named))), len(named)

    return without


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_DIGEST).digest()
