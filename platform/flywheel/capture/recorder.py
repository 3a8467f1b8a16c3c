"""Recorders: what the gateway gives its rows to. One protocol, one implementation a mode of ``capture.mode``.

- ``durable``: the ``Outbox`` itself. An awaited method returns after the sync.
- ``async``: ``AsyncRecorder``. Returns at once; what is lost is counted, as far as anybody lives to count it.
- ``off``: ``NoRecorder``. Nothing is kept; whoever sends feedback is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from flywheel.capture.events import Event
from flywheel.capture.outbox import Outbox, outbox_folder
from flywheel.capture.room import Refusal
from flywheel.config import CaptureMode, FlywheelConfig
from flywheel.records import Inference


class Recorder(Protocol):
    """Keeps rows. Raising ``CaptureError`` means: not acknowledged."""

    @property
    def mode(self) -> CaptureMode:
        """What an acknowledgement means."""
        ...

    async def append(self, events: Sequence[Event]) -> None:
        """Keep events, all of them or none."""
        ...

    async def open_request(self, inference: Inference) -> None:
        """Note a request whose answer begins."""
        ...

    async def complete(self, inference: Inference) -> None:
        """Keep the inference of an open request."""
        ...

    def refusal(self) -> Refusal | None:
        """Why new requests must be turned away now; None when they need not be."""
        ...

    def check(self) -> None:
        """Raise ``CaptureError`` when this recorder will never write again: its replica must be replaced."""
        ...

    def close(self) -> None:
        """Write what was taken and let go. May block: call it outside the event loop."""
        ...


def open_recorder(config: FlywheelConfig) -> Recorder:
    """The recorder of ``capture.mode`` for one gateway replica.

    Raises:
        CaptureError: its outbox cannot be made (no rights, disk full).
    """
    from flywheel.capture.recorder_async import AsyncRecorder
    from flywheel.capture.recorder_off import NoRecorder

    if config.capture.mode == "off":
        return NoRecorder()
    folder = outbox_folder(config)
    outbox = Outbox.open(folder, group_commit_ms=config.gateway.group_commit_ms, config=config.capture)
    return outbox if config.capture.mode == "durable" else AsyncRecorder(outbox, folder)
