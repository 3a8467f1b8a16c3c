"""Events: what an outbox holds. Each is one raw row type with what is needed to sort and ship it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import Field
from pydantic_core import PydanticSerializationError
from uuid6 import uuid7

from flywheel.errors import CaptureError
from flywheel.records import Consent, Feedback, Inference, Record, ShadowPair

EventKind = Literal["inference", "feedback", "consent", "shadow_pair"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Body = Inference | Feedback | Consent | ShadowPair

MODELS: Final[dict[str, type[Body]]] = {
    "inference": Inference,
    "feedback": Feedback,
    "consent": Consent,
    "shadow_pair": ShadowPair,
}
"""Which row type an event of a kind carries."""


class Event(Record):
    """One row on its way to the lake. Produced by the gateway, consumed by ingestion. ``body`` is raw text."""

    event_id: str
    kind: EventKind
    flow: Name
    tenant: Name = "default"
    ts: datetime
    body: str


def to_event(record: Body, *, flow: str, tenant: str = "default") -> Event:
    """Wrap a row. Its identity is the row's own where it has one, so that a retry is the same event.

    Raises:
        CaptureError: the row holds text that is not Unicode (a lone surrogate).
    """
    kind: EventKind = next(kind for kind, model in MODELS.items() if isinstance(record, model))  # type: ignore[assignment]
    try:
        body = record.model_dump_json()
    except PydanticSerializationError as error:
        raise CaptureError(f"the {kind} holds text that cannot be stored; send valid Unicode: {error}") from error
    return Event(event_id=_identity(record), kind=kind, flow=flow, tenant=tenant, ts=record.ts, body=body)


def _identity(record: Body) -> str:
    if isinstance(record, Inference):
        return record.inference_id
    if isinstance(record, Feedback):
        return record.feedback_id
    return str(uuid7())
