"""Feedback and consent as clients send them, turned into rows. Acknowledged after the sync, never before."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticSerializationError

from flywheel.gateway.asked import MAX_ID, inference_of
from flywheel.gateway.problems import bad_request
from flywheel.records import Consent, Feedback, FeedbackKind, Purpose, RankedItem, feedback_id, utcnow

IMPLICIT = {"click", "copy", "dwell", "completion", "abandon", "reprompt"}
REPEATABLE = {"click", "copy", "dwell"}
MAX_TEXT = 100_000
S = TypeVar("S", bound="Sent")


class Sent(BaseModel):
    """Base of the bodies below: closed, so that a typo is an error and not a lost value."""

    model_config = ConfigDict(extra="forbid")


class FeedbackSent(Sent):
    """Body of ``POST /v1/feedback``."""

    inference_id: str
    feedback_token: str | None = None
    kind: FeedbackKind
    value: float | None = Field(default=None, allow_inf_nan=False)
    text: str | None = Field(default=None, max_length=MAX_TEXT)
    choice_index: int = Field(default=0, ge=0)
    items: list[RankedItem] = Field(default_factory=list, max_length=1_000)
    user: str | None = Field(default=None, max_length=MAX_ID)
    idempotency_key: str | None = Field(default=None, min_length=1, max_length=MAX_ID)

    @model_validator(mode="after")
    def _says_something(self) -> FeedbackSent:
        if self.kind == "thumbs" and self.value not in {-1, 1}:
            raise ValueError("thumbs needs a value of -1 or 1")
        if self.kind == "rating" and (self.value is None or not 1 <= self.value <= 5):
            raise ValueError("rating needs a value from 1 to 5")
        if self.kind == "dwell" and (self.value is None or self.value < 0):
            raise ValueError("dwell needs a value in milliseconds")
        if self.kind in {"correction", "comment"} and not (self.text or "").strip():
            raise ValueError(f"{self.kind} needs a text")
        return self


class ConsentSent(Sent):
    """Body of ``POST /v1/consent``."""

    user: str = Field(min_length=1, max_length=MAX_ID)
    purpose: Purpose | None = None
    purposes: list[Purpose] = Field(default_factory=list)
    state: Literal["granted", "withdrawn"]
    policy_version: str = Field(default="1", max_length=MAX_ID)
    expires_at: datetime | None = None

    @model_validator(mode="after")
    def _complete(self) -> ConsentSent:
        if not self.named():
            raise ValueError("name a purpose")
        if self.expires_at is not None and self.expires_at.tzinfo is None:
            raise ValueError("expires_at needs a time zone")
        return self

    def named(self) -> list[Purpose]:
        """Every purpose once."""
        return list(dict.fromkeys([*([self.purpose] if self.purpose else []), *self.purposes]))


def read_feedback(body: dict[str, Any]) -> FeedbackSent:
    """Validate a feedback body.

    Raises:
        ApiProblem: 400, naming the field.
    """
    sent = _validated(FeedbackSent, body)
    return sent.model_copy(update={"inference_id": inference_of(sent.inference_id)})


def read_consent_body(body: dict[str, Any]) -> ConsentSent:
    """Validate a consent body.

    Raises:
        ApiProblem: 400, naming the field.
    """
    return _validated(ConsentSent, body)


def feedback_row(sent: FeedbackSent, *, flow: str, tenant: str) -> Feedback:
    """The row. The same event sent again, to any replica, has the same id.

    Without a user the subject is left empty: ingestion takes it from the inference, whose token was shown.
    """
    return Feedback(
        feedback_id=feedback_id(tenant, sent.inference_id, sent.idempotency_key or _own_key(sent)),
        inference_id=sent.inference_id,
        flow=flow,
        tenant=tenant,
        choice_index=sent.choice_index,
        ts=utcnow(),
        subject=sent.user or "",
        kind=sent.kind,
        value=sent.value,
        text=sent.text,
        items=sent.items,
        source="implicit" if sent.kind in IMPLICIT else "explicit",
    )


def consent_rows(sent: ConsentSent) -> Sequence[Consent]:
    """One row a purpose, all with one time."""
    now = utcnow()
    return [
        Consent(
            subject=sent.user,
            purpose=purpose,
            ts=now,
            state=sent.state,
            policy_version=sent.policy_version,
            expires_at=sent.expires_at,
        )
        for purpose in sent.named()
    ]


def _own_key(sent: FeedbackSent) -> str:
    """Clients that give no key: a retry of a statement is the same statement; clicks and the like may repeat."""
    if sent.kind in REPEATABLE:
        return str(uuid.uuid4())
    content = sent.model_dump(mode="json", exclude={"feedback_token", "idempotency_key"})
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _validated(model: type[S], body: dict[str, Any]) -> S:
    try:
        sent = model.model_validate(body)
        sent.model_dump_json()  # half a surrogate pair passes validation but no store
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise bad_request(f"'{place}': {first['msg']}" if place else first["msg"]) from error
    except PydanticSerializationError as error:
        raise bad_request("the body is not valid Unicode") from error
    return sent
