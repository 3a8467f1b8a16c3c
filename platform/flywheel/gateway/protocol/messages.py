"""Shapes of messages and tools in a request. Typed dicts: checked without making objects, and the source of the schema.

Fields of a message that are not named here are ignored, as OpenAI's own clients send an answer's message back
with whatever came with it (``refusal``, ``annotations``). What would change the meaning is refused by name.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Required

from pydantic import ConfigDict, Discriminator, Field, Tag
from typing_extensions import TypedDict

MAX_MESSAGES = 2_000
MAX_PARTS = 500
MAX_TOOLS = 128
MAX_CALLS = 128

CLOSED = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
OPEN = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)

Id = Annotated[str, Field(min_length=1, max_length=256)]
FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]


class TextPart(TypedDict):
    """A part of a message. Only text: images and sound are refused, not dropped."""

    __pydantic_config__ = OPEN  # type: ignore[misc]

    type: Literal["text"]
    text: str


Content = str | Annotated[list[TextPart], Field(max_length=MAX_PARTS)]


class _Spoken(TypedDict, total=False):
    name: Id | None


class SystemMessage(_Spoken, total=False):
    """Instructions. ``developer`` is recorded and asked as ``system``."""

    __pydantic_config__ = OPEN  # type: ignore[misc]

    role: Required[Literal["system", "developer"]]
    content: Required[Content]


class UserMessage(_Spoken, total=False):
    """What the user said."""

    __pydantic_config__ = OPEN  # type: ignore[misc]

    role: Required[Literal["user"]]
    content: Required[Content]


class CalledFunction(TypedDict):
    """Name and arguments of a call; the arguments are text as the model wrote it."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]

    name: FunctionName
    arguments: str


class AssistantCall(TypedDict):
    """One tool call of an earlier answer."""

    __pydantic_config__ = OPEN  # type: ignore[misc]

    id: Id
    type: Literal["function"]
    function: CalledFunction


class AssistantMessage(_Spoken, total=False):
    """An earlier answer: text, tool calls, or both."""

    __pydantic_config__ = OPEN  # type: ignore[misc]

    role: Required[Literal["assistant"]]
    content: Content | None
    tool_calls: Annotated[list[AssistantCall], Field(max_length=MAX_CALLS)] | None
    function_call: Annotated[None, Field(description="the form before tool_calls; not taken")]
    audio: Annotated[None, Field(description="not taken")]


class ToolMessage(_Spoken, total=False):
    """What a tool answered."""

    __pydantic_config__ = OPEN  # type: ignore[misc]

    role: Required[Literal["tool"]]
    content: Required[Content]
    tool_call_id: Required[Annotated[Id, Field(description="the id of a call in an earlier assistant message")]]


def _kind(message: Any) -> str | None:
    role = message.get("role") if isinstance(message, dict) else None
    return "system" if role == "developer" else role if isinstance(role, str) else None


RequestMessage = Annotated[
    Annotated[SystemMessage, Tag("system")]
    | Annotated[UserMessage, Tag("user")]
    | Annotated[AssistantMessage, Tag("assistant")]
    | Annotated[ToolMessage, Tag("tool")],
    Discriminator(
        _kind,
        custom_error_type="unknown_role",
        custom_error_message="'role' must be one of system, developer, user, assistant, tool",
    ),
]


class Function(TypedDict, total=False):
    """A function that the model may call."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]

    name: Required[FunctionName]
    description: str | None
    parameters: Annotated[dict[str, Any], Field(description="a JSON schema")] | None
    strict: bool | None


class Tool(TypedDict):
    """A tool; functions are the only kind."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]

    type: Literal["function"]
    function: Function


class NamedFunction(TypedDict):
    """The function that must be called."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]

    name: FunctionName


class NamedTool(TypedDict):
    """The tool that must be called."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]

    type: Literal["function"]
    function: NamedFunction


Tools = Annotated[list[Tool], Field(min_length=1, max_length=MAX_TOOLS)]
ToolChoice = Literal["none", "auto", "required"] | NamedTool
