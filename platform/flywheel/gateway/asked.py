"""What a chat request asks for, read from its headers and body. Pure: no I/O, nothing recorded."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from uuid6 import uuid7

from flywheel.gateway.problems import ApiProblem, bad_request
from flywheel.records import Message, Purpose, Role

PURPOSES: tuple[str, ...] = get_args(Purpose)
ROLES: tuple[str, ...] = get_args(Role)
SAMPLING = {
    "temperature", "top_p", "top_k", "min_p", "n", "max_tokens", "max_completion_tokens", "min_tokens", "stop", "seed",
    "presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias", "logprobs", "top_logprobs",
    "response_format", "ignore_eos",
}  # fmt: skip
"""Passed on to the engine. A list of what is allowed: engines take fields that change more than the sampling."""
WITHOUT_EFFECT = {
    "messages", "model", "stream", "stream_options", "user", "metadata", "store", "service_tier", "safety_identifier",
    "prompt_cache_key", "parallel_tool_calls", "best_of",
}  # fmt: skip
"""Read elsewhere, or sent by clients without meaning here."""
MAX_ID = 256
MAX_CHOICES = 8
ID_PREFIX = "chatcmpl-"


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
    best_of: int | None = None
    """Answers to draw for the one that is served (``choosing.best_of``); None: as configured."""
    key_id: str | None = None

    def engine_body(self, version: str, *, stream: bool, request_id: str | None = None) -> dict[str, Any]:
        """What the engine of ``version`` is asked, with this inference's id."""
        body: dict[str, Any] = {
            **self.params,
            "model": version,
            "messages": [message.model_dump() for message in self.messages],
            "stream": stream,
            "request_id": request_id or self.inference_id,
        }
        if stream:
            body["stream_options"] = {"include_usage": True}
        return body


def read_json(raw: bytes) -> dict[str, Any]:
    """A request body as an object.

    Raises:
        ApiProblem: 400.
    """
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise bad_request(f"the body is not JSON: {error}", "invalid_json") from error
    if not isinstance(body, dict):
        raise bad_request(f"the body must be a JSON object, not {type(body).__name__}", "invalid_json")
    return body


def read_chat(body: dict[str, Any], headers: Mapping[str, str], *, tenant: str, default_max_tokens: int) -> Asked:
    """Validate a chat request.

    Raises:
        ApiProblem: 400, naming the field.
    """
    inference_id = str(uuid7())
    session = _text(headers.get("x-flywheel-session"), "x-flywheel-session")
    parent = _text(headers.get("x-flywheel-parent"), "x-flywheel-parent")
    user = _text(body.get("user"), "user") or _text(headers.get("x-flywheel-user"), "x-flywheel-user")
    options = body.get("stream_options")
    params = {key: value for key, value in body.items() if key not in WITHOUT_EFFECT and value is not None}
    _check_params(params)
    if "max_tokens" not in params and "max_completion_tokens" not in params:
        params["max_tokens"] = default_max_tokens
    stream = body.get("stream") or False
    if not isinstance(stream, bool):
        raise bad_request("'stream' must be true or false")
    if stream and params.get("n", 1) != 1:
        raise bad_request("'n' must be 1 when streaming")
    return Asked(
        inference_id=inference_id,
        tenant=tenant,
        user=user or f"anonymous:{session or inference_id}",
        session_id=session,
        parent_id=inference_of(parent) if parent else None,
        consent=read_consent(headers.get("x-flywheel-consent")),
        model=_text(body.get("model"), "model") or "",
        messages=_messages(body.get("messages")),
        params=params,
        stream=stream,
        include_usage=isinstance(options, dict) and bool(options.get("include_usage")),
        best_of=_best_of(body),
    )


def read_consent(header: str | None) -> list[Purpose]:
    """``"training, evaluation"`` -> the purposes stated. Nothing, or ``none``: none.

    Raises:
        ApiProblem: 400 for an unknown purpose, because silence about a typo would look like a refusal.
    """
    names = [name.strip().lower() for name in (header or "").split(",")]
    stated = [name for name in names if name and name != "none"]
    unknown = [name for name in stated if name not in PURPOSES]
    if unknown:
        raise bad_request(f"x-flywheel-consent: unknown purpose '{unknown[0]}'; known: {', '.join(PURPOSES)}, none")
    return [purpose for purpose in get_args(Purpose) if purpose in stated]


def inference_of(identifier: str) -> str:
    """The inference id in ``chatcmpl-<uuid>`` or ``<uuid>``, in canonical form.

    Raises:
        ApiProblem: 400: it is no such id.
    """
    try:
        return str(uuid.UUID(identifier.removeprefix(ID_PREFIX)))
    except ValueError as error:
        raise bad_request(f"'{identifier[:60]}' is no inference id; use the id of an answer") from error


def _check_params(params: dict[str, Any]) -> None:
    unknown = sorted(params.keys() - SAMPLING)
    if unknown:
        raise bad_request(
            f"'{unknown[0][:60]}' is not supported; known: {', '.join(sorted(SAMPLING))}", "unknown_field"
        )
    n = params.get("n", 1)
    if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= MAX_CHOICES:
        raise bad_request(f"'n' must be a whole number from 1 to {MAX_CHOICES}")
    for name in ("max_tokens", "max_completion_tokens"):
        value = params.get(name, 1)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise bad_request(f"'{name}' must be a whole number of at least 1")


def _best_of(body: dict[str, Any]) -> int | None:
    value = body.get("best_of")
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_CHOICES:
        raise bad_request(f"'best_of' must be a whole number from 1 to {MAX_CHOICES}")
    if value > 1 and body.get("n", 1) not in {1, None}:
        raise bad_request("'best_of' serves one of several answers: leave 'n' out, or set it to 1")
    return value


def _messages(value: Any) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise bad_request("'messages' must be a list with at least one message")
    return [_message(item, index) for index, item in enumerate(value)]


def _message(item: Any, index: int) -> Message:
    place = f"messages[{index}]"
    if not isinstance(item, dict):
        raise bad_request(f"'{place}' must be an object")
    role = "system" if item.get("role") == "developer" else item.get("role")
    if role not in ROLES:
        raise bad_request(f"'{place}.role' must be one of {', '.join(ROLES)}")
    return Message(role=role, content=_content(item.get("content"), place))


def _content(value: Any, place: str) -> str:
    if isinstance(value, str):
        return _unicode(value, f"{place}.content")
    if value is None:
        return ""
    if not isinstance(value, list):
        raise bad_request(f"'{place}.content' must be text or a list of text parts")
    parts = [part.get("text") for part in value if isinstance(part, dict) and part.get("type") == "text"]
    if len(parts) != len(value) or not all(isinstance(part, str) for part in parts):
        raise bad_request(f"'{place}.content': only text parts are supported")
    return _unicode("".join(str(part) for part in parts), f"{place}.content")


def _text(value: Any, name: str) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > MAX_ID:
        raise bad_request(f"'{name}' must be text of at most {MAX_ID} characters")
    return _unicode(value, name)


def _unicode(value: str, name: str) -> str:
    """JSON can carry half a surrogate pair, which no store can hold."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ApiProblem(400, f"'{name}' is not valid Unicode", "invalid_request_error") from error
    return value
