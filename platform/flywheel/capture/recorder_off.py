"""``capture.mode: off``: answers are given, nothing is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from flywheel.capture.events import Event
from flywheel.capture.room import Refusal
from flywheel.config.models import CaptureMode
from flywheel.records import Inference


class NoRecorder:
    """Takes everything and keeps nothing. The gateway refuses feedback and consent before they come here."""

    mode: ClassVar[CaptureMode] = "off"

    async def append(self, events: Sequence[Event]) -> None:
        """Nothing."""

    async def open_request(self, inference: Inference) -> None:
        """Nothing."""

    async def complete(self, inference: Inference) -> None:
        """Nothing."""

    def refusal(self) -> Refusal | None:
        """Never."""
        return None

    def close(self) -> None:
        """Nothing."""
