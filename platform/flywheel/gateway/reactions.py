"""Feedback and consent as clients send them, turned into rows. Acknowledged after the sync, never before."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticSerializationError

from flywheel.gateway.asked import MAX_ID, inference_of
from flywheel.gateway.kinds import RULES, problem_of
from flywheel.gateway.problems import bad_request
from flywheel.records import Consent, Feedback, FeedbackKind, Purpose, RankedItem, feedback_id, in_utc, utcnow

MAX_TEXT = 100_000
MAX_PLACE = 100_000
S = TypeVar("S", bound="Sent")


class Sent(BaseModel):
    """Base of the bodies below: closed, so that a typo is an error and not a lost value."""

    model_config = ConfigDict(extra="forbid")


class ItemSent(Sent):
    """One item of a ranked list as it was shown."""

    id: str = Field(min_length=1, max_length=MAX_ID)
    rank: int = Field(ge=0, le=MAX_PLACE)
    shown_ms: float | None = Field(default=None, ge=0, le=86_400_000)
    action: str | None = Field(default=None, max_length=MAX_ID)


class FeedbackSent(Sent):
    """Body of ``POST /v1/feedback``: a reaction to one answer, or to a whole session.

    An answer is named by ``inference_id``. A session is named by ``session_id``; then the token is that of any of its
    answers, and ``inference_id``, if given, names that answer.
    """

    inference_id: str | None = None
    session_id: str | None = Field(default=None, min_length=1, max_length=MAX_ID)
    feedback_token: str | None = Field(default=None, max_length=4_096)
    kind: FeedbackKind
    value: float | None = Field(default=None, allow_inf_nan=False)
    text: str | None = Field(default=None, max_length=MAX_TEXT)
    choice_index: int = Field(default=0, ge=0, le=MAX_PLACE)
    items: list[ItemSent] = Field(default_factory=list, max_length=1_000)
    user: str | None = Field(default=None, max_length=MAX_ID)
    idempotency_key: str | None = Field(default=None, min_length=1, max_length=MAX_ID)

    @model_validator(mode="after")
    def _says_something(self) -> FeedbackSent:
        if self.inference_id is None and self.session_id is None:
            raise ValueError("name an inference_id, or a session_id")
        if self.session_id is not None and (self.choice_index or self.items):
            raise ValueError("choice_index and items are about one answer; leave them out with a session_id")
        wrong = problem_of(self.kind, self.value, self.text, session=self.session_id is not None)
        if wrong:
            raise ValueError(wrong)
        return self


class FeedbackBatch(Sent):
    """Body of ``POST /v1/feedback`` with several reactions, for the document: each is read on its own."""

    items: list[FeedbackSent] = Field(min_length=1)


class ConsentSent(Sent):
    """Body of ``POST /v1/consent``."""

    user: str = Field(min_length=1, max_length=MAX_ID)
    purpose: Purpose | None = None
    purposes: list[Purpose] = Field(default_factory=list, max_length=100)
    state: Literal["granted", "withdrawn"]
    policy_version: str = Field(default="1", max_length=MAX_ID)
    expires_at: Annotated[datetime, AfterValidator(in_utc)] | None = None

    @model_validator(mode="after")
    def _complete(self) -> ConsentSent:
        if not self.named():
            raise ValueError("name a purpose")
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
    if sent.inference_id is None:
        return sent
    return sent.model_copy(update={"inference_id": inference_of(sent.inference_id)})


def read_consent_body(body: dict[str, Any]) -> ConsentSent:
    """Validate a consent body.

    Raises:
        ApiProblem: 400, naming the field.
    """
    return _validated(ConsentSent, body)


def feedback_row(sent: FeedbackSent, *, flow: str, tenant: str, about: str) -> Feedback:
    """The row. The same event sent again, to any replica, has the same id.

    Without a user the subject is left empty: ingestion takes it from the inference or the session.

    Args:
        sent: what came.
        flow: of this gateway.
        tenant: of the caller.
        about: what is rated, as it may enter the row's id, which is no secret: the inference's id, or a session's mark.
    """
    return Feedback(
        feedback_id=feedback_id(tenant, about, sent.idempotency_key or _own_key(sent)),
        inference_id=sent.inference_id or "",
        session_id=sent.session_id,
        flow=flow,
        tenant=tenant,
        choice_index=sent.choice_index,
        ts=utcnow(),
        subject=sent.user or "",
        kind=sent.kind,
        value=sent.value,
        text=sent.text,
        items=[RankedItem(**item.model_dump()) for item in sent.items],
        source="implicit" if RULES[sent.kind].implicit else "explicit",
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
    if RULES[sent.kind].repeats:
        return str(uuid.uuid4())
    # Not the token, nor the answer whose token vouches for a session: either may be another one at the next try.
    left_out = {"feedback_token", "idempotency_key", "session_id"} | ({"inference_id"} if sent.session_id else set())
    content = sent.model_dump(mode="json", exclude=left_out)
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
