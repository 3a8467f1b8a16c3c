"""``capture.mode: async``: an answer does not wait for the disk, and rows can be lost.

What is lost and counted: rows that found the queue full, rows that the disk did not take. What is lost and cannot be
counted: what a replica held in memory when it was killed, its unfinished streams included. That it ended so is known
(``died``), how much it held is not. Feedback and consent are statements of people: they wait for the sync here too.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from flywheel.capture.events import Event, to_event
from flywheel.capture.losses import Losses
from flywheel.capture.outbox import Outbox
from flywheel.capture.room import Refusal
from flywheel.config import CaptureMode
from flywheel.errors import CaptureError
from flywheel.records import Inference

log = logging.getLogger(__name__)

SAVE_S: Final = 1.0
"""How long a loss is known to this process only."""

_STATEMENTS: Final = frozenset({"feedback", "consent"})


class AsyncRecorder:
    """Rows go into the bounded queue of an outbox; nobody waits for their sync."""

    mode: CaptureMode = "async"

    def __init__(self, outbox: Outbox, folder: Path) -> None:
        self._outbox = outbox
        self._losses = Losses(folder)
        self._losses.begin(outbox.outbox_id)
        self._stop = threading.Event()
        self._saver = threading.Thread(target=self._save_for_ever, name="capture-losses", daemon=True)
        self._saver.start()

    async def append(self, events: Sequence[Event]) -> None:
        """Queue events of traffic; wait for the sync of statements.

        Raises:
            CaptureError: a statement is not durable. Lost traffic raises nothing, it is counted.
        """
        if any(event.kind in _STATEMENTS for event in events):
            await self._outbox.append(events)
        else:
            self._offer(events)

    async def open_request(self, inference: Inference) -> None:
        """Nothing: a request is recorded when it ends."""

    async def complete(self, inference: Inference) -> None:
        """Queue the inference."""
        self._offer([to_event(inference, flow=inference.flow, tenant=inference.tenant)])

    def refusal(self) -> Refusal | None:
        """Never: answering goes on while capture cannot keep up, and the loss is counted."""
        return None

    def check(self) -> None:
        """See ``Outbox.check``."""
        self._outbox.check()

    def close(self) -> None:
        """Write the queue and the counts."""
        self._outbox.close()
        self._stop.set()
        self._saver.join()
        self._losses.end(self._outbox.outbox_id)

    def _offer(self, events: Sequence[Event]) -> None:
        flow = events[0].flow
        try:
            self._outbox.offer(events, failed=lambda _: self._losses.add(flow, "not_stored", len(events)))
        except CaptureError:
            self._losses.add(flow, "queue_full", len(events))

    def _save_for_ever(self) -> None:
        while not self._stop.wait(SAVE_S):
            self._losses.save()
