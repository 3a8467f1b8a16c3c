"""Flywheel's own format: a line is an ``ImportedInteraction``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flywheel.capture.readers.shapes import Read

_OWN: Final = frozenset({"response", "flow", "consent", "feedback"})


def recognises(data: Mapping[str, Any]) -> bool:
    """Messages, and something that only this format has."""
    return "messages" in data and not _OWN.isdisjoint(data)


def read(data: dict[str, Any]) -> Read:
    """The line says everything itself."""
    return Read(data)
