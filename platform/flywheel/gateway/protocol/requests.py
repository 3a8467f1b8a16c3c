"""Bodies of ``/v1/chat/completions`` and ``/v1/completions``: fields, types, ranges. One source for check and document.

A body is checked once, as the plain dict that it is; nothing is copied into model objects. ``null`` means "not given".
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Required

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from flywheel.gateway.problems import ApiProblem
from flywheel.gateway.protocol.messages import CLOSED, MAX_MESSAGES, RequestMessage, ToolChoice, Tools

MAX_CHOICES = 8
MAX_STOPS = 16
MAX_BIASES = 1_024
MAX_ANSWER = 1_000_000
INT64 = 2**63 - 1

Text = Annotated[str, Field(max_length=256)]
Length = Annotated[int, Field(ge=1, le=MAX_ANSWER)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Stop = Annotated[str, Field(min_length=1, max_length=256)]
NAMES = 64
ROLES = {"system", "user", "assistant", "tool"}


class StreamOptions(TypedDict, total=False):
    """Only with ``stream``."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]

    include_usage: Annotated[bool, Field(description="a last chunk without choices carries the token counts")] | None
    include_obfuscation: Annotated[bool, Field(description="without effect")] | None


class JsonSchema(TypedDict, total=False):
    """The form the answer must have."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]

    name: Required[Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]]
    description: str | None
    schema: Required[Annotated[dict[str, Any], Field(description="a JSON schema")]]
    strict: bool | None


class PlainFormat(TypedDict):
    """Free text, or any JSON object."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]

    type: Literal["text", "json_object"]


class SchemaFormat(TypedDict):
    """JSON of one schema."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]

    type: Literal["json_schema"]
    json_schema: JsonSchema


class _Sampling(TypedDict, total=False):
    temperature: Annotated[float, Field(ge=0, le=2)] | None
    top_p: Annotated[float, Field(gt=0, le=1)] | None
    top_k: Annotated[int, Field(ge=-1, le=1_000_000, description="-1 or 0: all tokens")] | None
    min_p: Annotated[float, Field(ge=0, le=1)] | None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES, description="answers to draw; all are recorded")] | None
    max_tokens: Length | None
    min_tokens: Annotated[int, Field(ge=0, le=MAX_ANSWER)] | None
    stop: Stop | Annotated[list[Stop], Field(max_length=MAX_STOPS)] | None
    seed: Annotated[int, Field(ge=-INT64, le=INT64)] | None
    presence_penalty: Penalty | None
    frequency_penalty: Penalty | None
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] | None
    logit_bias: (
        Annotated[
            dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], Annotated[float, Field(ge=-100, le=100)]],
            Field(max_length=MAX_BIASES, description="by token id"),
        ]
        | None
    )
    response_format: PlainFormat | SchemaFormat | None
    ignore_eos: bool | None


class _Asked(_Sampling, total=False):
    model: Annotated[str, Field(max_length=256, description="the flow, or a version in /v1/models; empty: live")] | None
    stream: bool | None
    stream_options: StreamOptions | None
    user: Annotated[str, Field(max_length=256, description="whose request this is; stored as a pseudonym")] | None


class ChatBody(_Asked, total=False):
    """Body of ``POST /v1/chat/completions``. Closed: an unknown field is an error and not a lost wish."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]

    messages: Required[Annotated[list[RequestMessage], Field(min_length=1, max_length=MAX_MESSAGES)]]
    max_completion_tokens: Length | None
    logprobs: bool | None
    top_logprobs: Annotated[int, Field(ge=0, le=20, description="only with logprobs")] | None
    tools: Tools | None
    tool_choice: Annotated[ToolChoice, Field(description="only with tools; a named one must be among them")] | None
    parallel_tool_calls: bool | None
    best_of: (
        Annotated[int, Field(ge=1, le=MAX_CHOICES, description="answers to draw for the one that is served")] | None
    )
    metadata: (
        Annotated[
            dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
            Field(max_length=16, description="recorded as the row's tags"),
        ]
        | None
    )
    store: Annotated[bool, Field(description="without effect")] | None
    service_tier: Annotated[str, Field(max_length=64, description="without effect")] | None
    safety_identifier: Annotated[str, Field(max_length=256, description="without effect")] | None
    prompt_cache_key: Annotated[str, Field(max_length=256, description="without effect")] | None


class CompletionBody(_Asked, total=False):
    """Body of ``POST /v1/completions``: one raw prompt, answered without a chat template."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]

    prompt: Required[
        Annotated[str, Field(min_length=1)]
        | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=1)]
    ]
    logprobs: Annotated[int, Field(ge=0, le=20)] | None
    echo: Annotated[Literal[False], Field(description="the prompt cannot be repeated in the answer")] | None
    best_of: Annotated[Literal[1], Field(description="ask for n answers instead")] | None
    suffix: Annotated[Literal[""], Field(description="infilling is not supported")] | None


CHAT: TypeAdapter[ChatBody] = TypeAdapter(ChatBody)
COMPLETION: TypeAdapter[CompletionBody] = TypeAdapter(CompletionBody)


def checked(adapter: TypeAdapter[Any], body: dict[str, Any]) -> dict[str, Any]:
    """The body, without what may be ignored.

    Raises:
        ApiProblem: 400, naming the field in ``param``.
    """
    try:
        return adapter.validate_python(body)
    except ValidationError as error:
        raise refusal(error) from None


def refusal(error: ValidationError) -> ApiProblem:
    """The first finding, without a word of what was sent: the message may be logged."""
    found = error.errors(include_url=False, include_input=False)[0]
    place = _place(found["loc"])
    if found["type"] == "extra_forbidden":
        return ApiProblem(
            400,
            f"'{place}' is not supported; leave it out (the fields are in /openapi.json)",
            "invalid_request_error",
            code="unknown_field",
            param=place,
        )
    missing = found["type"] == "missing"
    text = f"'{place}' is missing" if missing else f"'{place}': {found['msg']}"
    code = "missing_field" if missing else "invalid_value"
    return ApiProblem(400, text, "invalid_request_error", code=code, param=place)


def _place(loc: tuple[int | str, ...]) -> str:
    """``messages[0].content`` from pydantic's path, without the names of union members in it ("user", "str")."""
    text = ""
    for index, part in enumerate(loc):
        if isinstance(part, int):
            text += f"[{part}]"
        elif index == 0 or index == len(loc) - 1 or not _names_a_member(part, loc[index - 1]):
            text += f".{part[:NAMES]}" if text else part[:NAMES]
    return text


def _names_a_member(part: str, before: int | str) -> bool:
    return (isinstance(before, int) and part in ROLES) or part[:1].isupper() or not part.replace("_", "").isalnum()
