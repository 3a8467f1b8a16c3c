"""What a request for an answer asks for, read from its headers and body. Pure: no I/O, nothing recorded."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from uuid6 import uuid7

from flywheel.gateway.problems import bad_request
from flywheel.gateway.protocol.requests import CHAT, COMPLETION, checked
from flywheel.gateway.protocol.rules import check_conversation, check_together
from flywheel.records import Api, Message, Purpose

PURPOSES: tuple[str, ...] = get_args(Purpose)
NO_PARAMETER = {
    "messages", "prompt", "model", "stream", "stream_options", "user", "metadata", "store", "service_tier",
    "safety_identifier", "prompt_cache_key", "echo", "best_of", "suffix",
}  # fmt: skip
"""Read elsewhere, or without effect. All else is passed on to the engine and recorded as the row's ``params``."""
MAX_ID = 256
ID_PREFIX = "chatcmpl-"
ID_PREFIXES: dict[Api, str] = {"chat": ID_PREFIX, "completion": "cmpl-"}
_HEX = "[0-9a-fA-F]"
PARENT_PATTERN = "({})?{}".format("|".join(ID_PREFIXES.values()), "-".join(f"{_HEX}{{{n}}}" for n in (8, 4, 4, 4, 12)))
CONSENT_PATTERN = "none|({0})([ \\t]*,[ \\t]*({0}))*".format("|".join(PURPOSES))
YES_PATTERN = "yes|no"
"""What these headers look like when they are not empty; the OpenAPI document says the same."""


@dataclass(frozen=True)
class Asked:
    """One validated chat request."""

    inference_id: str
    tenant: str
    user: str
    session_id: str | None
    parent_id: str | None
    consent: list[Purpose]
    model: str
    messages: list[Message]
    params: dict[str, Any]
    stream: bool
    include_usage: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    api: Api = "chat"
    side_by_side: bool = False
    """The product can show two answers for its user to choose from."""
    best_of: int | None = None
    """Answers to draw for the one that is served (``choosing.best_of``); None: as configured."""
    key_id: str | None = None

    @property
    def answer_id(self) -> str:
        """The ``id`` of the answer in the client's eyes."""
        return ID_PREFIXES[self.api] + self.inference_id

    def engine_body(self, version: str, *, stream: bool, request_id: str | None = None) -> dict[str, Any]:
        """What the engine of ``version`` is asked, with this inference's id."""
        body: dict[str, Any] = {
            **self.params,
            "model": version,
            "stream": stream,
            "request_id": request_id or self.inference_id,
        }
        if self.api == "chat":
            body["messages"] = [message.model_dump() for message in self.messages]
        else:  # an engine tells by this field that no chat template is wanted
            body["prompt"] = self.messages[0].content
        if stream:
            body["stream_options"] = {"include_usage": True}
        return body


def read_chat(
    body: dict[str, Any],
    headers: Mapping[str, str],
    *,
    tenant: str,
    default_max_tokens: int,
    inference_id: str | None = None,
) -> Asked:
    """Validate a chat request.

    Raises:
        ApiProblem: 400, naming the field.
    """
    body = checked(CHAT, body)
    check_together(body)
    check_conversation(body["messages"])
    messages = [_message(message) for message in body["messages"]]
    return _asked(
        body, headers, messages,
        tenant=tenant, default_max_tokens=default_max_tokens, inference_id=inference_id, api="chat",
    )  # fmt: skip


def read_completion(
    body: dict[str, Any],
    headers: Mapping[str, str],
    *,
    tenant: str,
    default_max_tokens: int,
    inference_id: str | None = None,
) -> Asked:
    """Validate a request for the completion of a raw prompt. It is recorded as one user message of api ``completion``.

    Raises:
        ApiProblem: 400, naming the field.
    """
    body = checked(COMPLETION, body)
    check_together(body)
    prompt = body["prompt"]
    messages = [Message(role="user", content=prompt if isinstance(prompt, str) else prompt[0])]
    return _asked(
        body, headers, messages,
        tenant=tenant, default_max_tokens=default_max_tokens, inference_id=inference_id, api="completion",
    )  # fmt: skip


def read_consent(header: str | None) -> list[Purpose]:
    """``"training, evaluation"`` -> the purposes stated. Nothing, or ``none``: none.

    Raises:
        ApiProblem: 400 for anything else, because silence about a typo, or about ``none`` beside a purpose, would be a
            guess at what somebody agreed to.
    """
    if not header:
        return []
    if not re.fullmatch(CONSENT_PATTERN, header):
        raise bad_request(f"x-flywheel-consent: '{header[:60]}' is neither none nor a list of {', '.join(PURPOSES)}")
    stated = {name.strip(" \t") for name in header.split(",")}
    return [purpose for purpose in get_args(Purpose) if purpose in stated]


def inference_of(identifier: str) -> str:
    """The inference id in ``chatcmpl-<uuid>`` or ``<uuid>``, in canonical form.

    Raises:
        ApiProblem: 400: it is no such id.
    """
    try:
        return str(uuid.UUID(_bare(identifier)))
    except ValueError as error:
        raise bad_request(f"'{identifier[:60]}' is no inference id; use the id of an answer") from error


def _parent(header: str | None) -> str | None:
    if header and not re.fullmatch(PARENT_PATTERN, header):
        raise bad_request(f"x-flywheel-parent: '{header[:60]}' is no inference id; use the id of an answer")
    return inference_of(header) if header else None


def _yes(header: str | None) -> bool:
    if header and not re.fullmatch(YES_PATTERN, header):
        raise bad_request(f"x-flywheel-side-by-side: '{header[:60]}' is neither yes nor no")
    return header == "yes"


def _bare(identifier: str) -> str:
    return next((identifier.removeprefix(p) for p in ID_PREFIXES.values() if identifier.startswith(p)), identifier)


def _asked(
    body: dict[str, Any],
    headers: Mapping[str, str],
    messages: list[Message],
    *,
    tenant: str,
    default_max_tokens: int,
    inference_id: str | None,
    api: Api,
) -> Asked:
    inference_id = inference_id or str(uuid7())
    session = _text(headers.get("x-flywheel-session"), "x-flywheel-session")
    parent = _text(headers.get("x-flywheel-parent"), "x-flywheel-parent")
    header = _text(headers.get("x-flywheel-user"), "x-flywheel-user")  # checked also where the body names somebody
    user = body.get("user") or header
    params = {key: value for key, value in body.items() if value is not None and key not in NO_PARAMETER}
    if "max_tokens" not in params and "max_completion_tokens" not in params:
        params["max_tokens"] = default_max_tokens
    return Asked(
        inference_id=inference_id,
        tenant=tenant,
        user=user or f"anonymous:{session or inference_id}",
        session_id=session,
        parent_id=_parent(parent),
        consent=read_consent(headers.get("x-flywheel-consent")),
        model=body.get("model") or "",
        messages=messages,
        params=params,
        stream=body.get("stream") or False,
        include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
        tags=body.get("metadata") or {},
        api=api,
        best_of=body.get("best_of"),
        side_by_side=_yes(headers.get("x-flywheel-side-by-side")),
    )


def _message(item: dict[str, Any]) -> Message:
    """A checked message as a row holds it."""
    role = item["role"]
    text = _plain(item.get("content"))
    if role == "user" and len(item) == 2:  # by far the most messages
        return Message(role=role, content=text)
    return Message(
        role="system" if role == "developer" else role,
        content=text,
        name=item.get("name"),
        tool_calls=item.get("tool_calls") or [],
        tool_call_id=item.get("tool_call_id"),
    )


def _plain(content: str | list[dict[str, str]] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part["text"] for part in content)


def _text(value: Any, name: str) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > MAX_ID:
        raise bad_request(f"'{name}' must be text of at most {MAX_ID} characters")
    return value
