"""``capture.mode: off``: answers are given, nothing is kept."""

from __future__ import annotations

from collections.abc import Sequence

from flywheel.capture.events import Event
from flywheel.capture.room import Refusal
from flywheel.config import CaptureMode
from flywheel.records import Inference


class NoRecorder:
    """Takes everything and keeps nothing. The gateway refuses feedback and consent before they come here."""

    mode: CaptureMode = "off"

    async def append(self, events: Sequence[Event]) -> None:
        """Forgotten."""

    async def open_request(self, inference: Inference) -> None:
        """Forgotten."""

    async def complete(self, inference: Inference) -> None:
        """Forgotten."""

    def refusal(self) -> Refusal | None:
        """Never."""
        return None

    def check(self) -> None:
        """Nothing can end."""

    def close(self) -> None:
        """Nothing."""
