"""Room: how much more may be written where the outboxes lie, and what to say when it is too little.

Two bounds on the disk: what waits for the shipper on this machine (a lake that is away for days must not fill the
disk), and free space that is left for requests in progress when new ones are refused. One bound on memory: events
that wait for their sync. New requests are refused at half of it, so that those in progress still find a place.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prometheus_client import Counter, Gauge

from flywheel.config import CaptureConfig
from flywheel.telemetry import CAPTURE_REFUSED_TOTAL, OUTBOX_FREE_BYTES, OUTBOX_QUEUE_EVENTS, OUTBOX_WAITING_BYTES

MIB: Final = 2**20
ADMIT_SHARE: Final = 0.5
"""Share of the queue that new requests may fill."""

REFUSED = Counter(CAPTURE_REFUSED_TOTAL, "Requests refused because they could not be recorded", ["reason"])
QUEUE = Gauge(OUTBOX_QUEUE_EVENTS, "Events of this replica that wait for their sync")
_WAITING = Gauge(OUTBOX_WAITING_BYTES, "Bytes in the outboxes of this machine that wait for the shipper")
_FREE = Gauge(OUTBOX_FREE_BYTES, "Free bytes on the disk of the outboxes")


@dataclass(frozen=True)
class Refusal:
    """Why nothing new can be recorded now, for whoever asks."""

    reason: str
    message: str
    status: int
    retry_after: int


@dataclass(frozen=True)
class Limits:
    """The bounds, in bytes and events."""

    queue_events: int
    queue_bytes: float
    outbox_bytes: float
    free_bytes: float

    @classmethod
    def of(cls, config: CaptureConfig) -> Limits:
        """As configured."""
        return cls(config.queue_events, config.queue_mb * MIB, config.outbox_max_mb * MIB, config.min_free_mb * MIB)

    def queue_full(self, events: int, size: int) -> bool:
        """Whether nothing at all may be added to this many waiting events of this size."""
        return events >= self.queue_events or size >= self.queue_bytes

    def queue_refusal(self, events: int, size: int) -> Refusal | None:
        """Whether new requests must wait until some of the queue is synced."""
        if events < self.queue_events * ADMIT_SHARE and size < self.queue_bytes * ADMIT_SHARE:
            return None
        return Refusal(
            "queue_full", f"{events} events wait for their sync, which cannot keep up; try again soon", 429, 1
        )

    def disk_refusal(self, folder: Path, own: str, used: int) -> Refusal | None:
        """Whether the disk has no room for new requests.

        Args:
            folder: of the outboxes.
            own: file name of the asking outbox.
            used: bytes in use of that file, whose size does not shrink when it is shipped.
        """
        others = sum(_size(path) for path in folder.glob("*.db") if path.name != own)
        disk = os.statvfs(folder)
        free, waiting = disk.f_bavail * disk.f_frsize, used + others
        _WAITING.set(waiting)
        _FREE.set(free)
        if free < self.free_bytes:
            return Refusal(
                "disk_full", f"only {free // MIB} MiB are free where events are recorded; free some space", 503, 5
            )
        if waiting >= self.outbox_bytes:
            message = f"{waiting // MIB} MiB of events wait for the lake; see why the shipper does not send them"
            return Refusal("outbox_full", message, 503, 5)
        return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0  # the shipper was done with it
