"""``openai.OpenAI`` and its asynchronous twin with ``feedback`` and ``consent``.

Everything else is OpenAI's: retries (a reaction carries an idempotency key, so a retry is the same row), time-outs,
errors (``openai.RateLimitError`` and the like), streaming.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from openai import AsyncOpenAI, BaseModel, OpenAI

from flywheel.client.feedback import Ticket, consent_body, feedback_body, headers
from flywheel.records import FeedbackKind, Purpose

DEFAULT_URL = "http://127.0.0.1:8000/v1"
NO_KEY = "none"
"""OpenAI's client wants a key; a gateway on loopback without keys reads none."""

Answer = Ticket | BaseModel | Mapping[str, Any]


class Receipt(BaseModel):
    """The gateway's word that a reaction is on its disk."""

    feedback_id: str


class Flywheel(OpenAI):
    """OpenAI's client for a Flywheel gateway.

    >>> client = Flywheel(api_key="…").about(user="u-1", session="s-1", consent=["training", "evaluation"])
    >>> answer = client.chat.completions.create(model="triage", messages=[{"role": "user", "content": "…"}])
    >>> client.feedback(answer, "thumbs", value=1)
    """

    def __init__(self, *, base_url: str = DEFAULT_URL, api_key: str | None = None, **options: Any) -> None:
        super().__init__(base_url=base_url, api_key=api_key or NO_KEY, **options)

    def about(
        self,
        *,
        user: str | None = None,
        session: str | None = None,
        consent: Sequence[Purpose] | None = None,
        parent: Ticket | str | None = None,
    ) -> Self:
        """This client for one person or conversation; connections are shared.

        Args:
            user: the product's id of the person; the lake keeps a keyed pseudonym of it.
            session: the conversation.
            consent: purposes the person agreed to; none given: what the person said earlier through ``consent``.
            parent: the answer that the next request asks again about, or continues.
        """
        return self.with_options(default_headers=headers(user=user, session=session, consent=consent, parent=parent))

    def feedback(
        self,
        answer: Answer,
        kind: FeedbackKind,
        *,
        value: float | None = None,
        text: str | None = None,
        choice_index: int = 0,
        items: Sequence[Mapping[str, Any]] = (),
        user: str | None = None,
        idempotency_key: str | None = None,
    ) -> Receipt:
        """Record one reaction to an answer; returns once it is on the gateway's disk.

        Args:
            answer: the completion, its first streamed chunk, or a ``Ticket`` kept from it.
            kind: thumbs (-1 or 1), rating (1 to 5), correction or comment (``text``), dwell (milliseconds), copy
                (characters), click (place), completion (share), abandon (milliseconds), reprompt, comparison.
            value: as above.
            text: of a correction or comment.
            choice_index: which choice, where several were given.
            items: ranked lists: ``{"id", "rank", "shown_ms", "action"}`` each.
            user: who reacts; default: who asked.
            idempotency_key: the product's own id of this event, if it has one.

        Raises:
            UsageError: the answer cannot be rated.
            openai.APIStatusError: the gateway refuses; openai.APIConnectionError: it cannot be reached.
        """
        body = feedback_body(
            Ticket.of(answer), kind, value=value, text=text, choice_index=choice_index, items=items, user=user,
            idempotency_key=idempotency_key,
        )  # fmt: skip
        return self.post("/feedback", body=body, cast_to=Receipt)

    def consent(
        self, user: str, purposes: Sequence[Purpose], *, granted: bool = True, expires_at: str | None = None
    ) -> None:
        """Record a person's standing statement; returns once it is on the gateway's disk."""
        self.post("/consent", body=consent_body(user, purposes, granted=granted, expires_at=expires_at), cast_to=object)


class AsyncFlywheel(AsyncOpenAI):
    """``Flywheel`` for asyncio."""

    def __init__(self, *, base_url: str = DEFAULT_URL, api_key: str | None = None, **options: Any) -> None:
        super().__init__(base_url=base_url, api_key=api_key or NO_KEY, **options)

    def about(
        self,
        *,
        user: str | None = None,
        session: str | None = None,
        consent: Sequence[Purpose] | None = None,
        parent: Ticket | str | None = None,
    ) -> Self:
        """See ``Flywheel.about``."""
        return self.with_options(default_headers=headers(user=user, session=session, consent=consent, parent=parent))

    async def feedback(
        self,
        answer: Answer,
        kind: FeedbackKind,
        *,
        value: float | None = None,
        text: str | None = None,
        choice_index: int = 0,
        items: Sequence[Mapping[str, Any]] = (),
        user: str | None = None,
        idempotency_key: str | None = None,
    ) -> Receipt:
        """See ``Flywheel.feedback``."""
        body = feedback_body(
            Ticket.of(answer), kind, value=value, text=text, choice_index=choice_index, items=items, user=user,
            idempotency_key=idempotency_key,
        )  # fmt: skip
        return await self.post("/feedback", body=body, cast_to=Receipt)

    async def consent(
        self, user: str, purposes: Sequence[Purpose], *, granted: bool = True, expires_at: str | None = None
    ) -> None:
        """See ``Flywheel.consent``."""
        body = consent_body(user, purposes, granted=granted, expires_at=expires_at)
        await self.post("/consent", body=body, cast_to=object)
