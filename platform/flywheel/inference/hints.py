"""What the gateway tells an engine besides the request: a field of the body that no client can set. Pure.

The gateway passes on a list of known request fields only, so a client's field of this name never gets here.
"""

from __future__ import annotations

from typing import Any

from flywheel.records import Record

FIELD = "flywheel"


class Hints(Record):
    """Produced by the gateway, consumed by ``EngineServer``. Another engine may ignore them."""

    coalesce: bool = False
    """Send the first event at once and the others together: every block costs the gateway a hop."""
    max_bytes: int | None = None
    """End the stream past this many bytes, at the source."""
    adapter: str | None = None
    """Folder of the LoRA adapter that answers, on top of this engine's model."""


def give(body: dict[str, Any], **values: Any) -> dict[str, Any]:
    """``body`` with these hints besides those that it has."""
    return {**body, FIELD: {**(body.get(FIELD) or {}), **values}}


def take(body: dict[str, Any]) -> tuple[dict[str, Any], Hints]:
    """The request without its hints, and the hints."""
    rest = {name: value for name, value in body.items() if name != FIELD}
    return rest, Hints.model_validate(body.get(FIELD) or {})
