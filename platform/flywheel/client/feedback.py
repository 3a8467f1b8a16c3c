"""Which answer a reaction is about, and the body that says so. Pure: nothing is sent here."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from flywheel.errors import UsageError
from flywheel.records import FeedbackKind


@dataclass(frozen=True)
class Ticket:
    """What is needed to rate an answer later, from anywhere: keep it with the answer (it holds no personal data)."""

    inference_id: str
    feedback_token: str
    model_version: str

    @classmethod
    def of(cls, answer: Ticket | BaseModel | Mapping[str, Any]) -> Ticket:
        """The ticket of an answer, a streamed chunk, or either as a dict.

        Raises:
            UsageError: it did not come from a Flywheel gateway that records.
        """
        if isinstance(answer, Ticket):
            return answer
        extra = answer.model_extra if isinstance(answer, BaseModel) else answer
        found = (extra or {}).get("flywheel")
        if not isinstance(found, Mapping) or not found.get("feedback_token"):
            raise UsageError(
                "this answer carries no feedback token: it is not from a Flywheel gateway, the gateway does not "
                "record, or it is a later chunk of a stream (the first one has it)"
            )
        return cls(found["inference_id"], found["feedback_token"], found["model_version"])


def feedback_body(
    ticket: Ticket,
    kind: FeedbackKind,
    *,
    value: float | None = None,
    text: str | None = None,
    choice_index: int = 0,
    items: Sequence[Mapping[str, Any]] = (),
    user: str | None = None,
    idempotency_key: str | None = None,
) -> dict[str, Any]:
    """The body of ``POST /v1/feedback``.

    Every event gets an idempotency key, so that a retry, at any replica, is the same row.
    """
    body: dict[str, Any] = {
        "inference_id": ticket.inference_id,
        "feedback_token": ticket.feedback_token,
        "kind": kind,
        "idempotency_key": idempotency_key or str(uuid.uuid4()),
    }
    said = {
        "value": value,
        "text": text,
        "user": user,
        "choice_index": choice_index or None,
        "items": list(items) or None,
    }
    return body | {name: given for name, given in said.items() if given is not None}


def consent_body(user: str, purposes: Sequence[str], *, granted: bool, expires_at: str | None = None) -> dict[str, Any]:
    """The body of ``POST /v1/consent``; ``expires_at`` is an ISO time with its zone."""
    body = {"user": user, "purposes": list(purposes), "state": "granted" if granted else "withdrawn"}
    return body | ({"expires_at": expires_at} if expires_at else {})


def headers(
    *, user: str | None, session: str | None, consent: Sequence[str] | None, parent: Ticket | str | None
) -> dict[str, str]:
    """What a request says about its person, besides OpenAI's own fields."""
    about = {
        "x-flywheel-user": user,
        "x-flywheel-session": session,
        "x-flywheel-consent": None if consent is None else ",".join(consent) or "none",
        "x-flywheel-parent": parent.inference_id if isinstance(parent, Ticket) else parent,
    }
    return {name: value for name, value in about.items() if value is not None}
