"""Shapes of answers, for the document and its tests.

Nothing is checked against them on the way out: answers come from an engine as they are, with an id, the real version
and the feedback token added.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, Required

from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

MORE = ConfigDict(extra="allow")
ONLY = ConfigDict(extra="forbid")
Role = Literal["assistant"]


class Rating(TypedDict):
    """What is needed to rate an answer."""

    __pydantic_config__ = ONLY  # type: ignore[misc]

    inference_id: str
    feedback_token: Annotated[str, Field(description="send it with feedback about this answer")]
    model_version: str


class Usage(TypedDict):
    """Tokens of one request, all its choices together."""

    __pydantic_config__ = MORE  # type: ignore[misc]

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int | None


class FunctionAsked(TypedDict):
    """The function to run, with arguments as the model wrote them: check them before use."""

    __pydantic_config__ = MORE  # type: ignore[misc]

    name: str
    arguments: str


class ToolAsked(TypedDict):
    """One tool call. The gateway runs no tools: the client does, and sends the results back."""

    __pydantic_config__ = MORE  # type: ignore[misc]

    id: str
    type: Literal["function"]
    function: FunctionAsked


class AnswerMessage(TypedDict, total=False):
    """What the model said."""

    __pydantic_config__ = MORE  # type: ignore[misc]

    role: Required[Role]
    content: str | None
    tool_calls: list[ToolAsked]


class ChatChoice(TypedDict, total=False):
    """One answer of several."""

    __pydantic_config__ = MORE  # type: ignore[misc]

    index: Required[int]
    message: Required[AnswerMessage]
    finish_reason: Required[Annotated[str | None, Field(description="stop, length, tool_calls")]]
    logprobs: dict[str, Any] | None


class ChatCompletion(TypedDict, total=False):
    """An answer."""

    __pydantic_config__ = MORE  # type: ignore[misc]

    id: Required[str]
    object: Required[Literal["chat.completion"]]
    created: Required[int]
    model: Required[Annotated[str, Field(description="the version that answered")]]
    choices: Required[list[ChatChoice]]
    usage: Usage | None
    flywheel: Required[Rating]


class FunctionPiece(TypedDict, total=False):
    """A piece of a call: the name comes first, the arguments in pieces."""

    __pydantic_config__ = MORE  # type: ignore[misc]

    name: str | None
    arguments: str | None


class ToolPiece(TypedDict, total=False):
    """A piece of a tool call, joined by ``index``."""

    __pydantic_config__ = MORE  # type: ignore[misc]

    index: Required[int]
    id: str | None
    type: Literal["function"] | None
    function: FunctionPiece | None


class Delta(TypedDict, total=False):
    """What is new."""

    __pydantic_config__ = MORE  # type: ignore[misc]

    role: Role | None
    content: str | None
    tool_calls: list[ToolPiece] | None


class ChunkChoice(TypedDict, total=False):
    """What is new of one answer of several."""

    __pydantic_config__ = MORE  # type: ignore[misc]

    index: Required[int]
    delta: Required[Delta]
    finish_reason: str | None
    logprobs: dict[str, Any] | None


class ChatCompletionChunk(TypedDict, total=False):
    """One event of a stream: ``data: {...}``; ``data: [DONE]`` is the last and says that the answer is recorded.

    A failure after the first event is an event with ``error`` instead, and no ``[DONE]`` follows.
    """

    __pydantic_config__ = MORE  # type: ignore[misc]

    id: Required[str]
    object: Required[Literal["chat.completion.chunk"]]
    created: Required[int]
    model: Required[str]
    choices: Required[list[ChunkChoice]]
    usage: Usage | None
    flywheel: Annotated[Rating, Field(description="first event only")]


class TextChoice(TypedDict, total=False):
    """One answer of several, or in a stream what is new of it."""

    __pydantic_config__ = MORE  # type: ignore[misc]

    index: Required[int]
    text: Required[str]
    finish_reason: str | None
    logprobs: dict[str, Any] | None


class TextCompletion(TypedDict, total=False):
    """An answer to a raw prompt; in a stream one event of it."""

    __pydantic_config__ = MORE  # type: ignore[misc]

    id: Required[str]
    object: Required[Literal["text_completion"]]
    created: Required[int]
    model: Required[str]
    choices: Required[list[TextChoice]]
    usage: Usage | None
    flywheel: Annotated[Rating, Field(description="in a stream: first event only")]


class Model(TypedDict):
    """A name that ``model`` may have."""

    __pydantic_config__ = ONLY  # type: ignore[misc]

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(TypedDict):
    """The names that ``model`` may have; the first is the flow, which always means the live model."""

    __pydantic_config__ = ONLY  # type: ignore[misc]

    object: Literal["list"]
    data: list[Model]


class FeedbackTaken(TypedDict):
    """The reaction is durable."""

    __pydantic_config__ = ONLY  # type: ignore[misc]

    feedback_id: Annotated[str, Field(description="the same for a retry of the same event")]


class BatchTaken(TypedDict):
    """What is right of a batch is durable; each item has its result, in order."""

    __pydantic_config__ = ONLY  # type: ignore[misc]

    recorded: int
    refused: int
    results: Annotated[list[dict[str, Any]], Field(description="a feedback_id or an error each")]


class RankedPlace(TypedDict):
    """One item of a ranked list."""

    __pydantic_config__ = ONLY  # type: ignore[misc]

    id: str
    rank: Annotated[int, Field(ge=1, description="1 is the top")]
    score: float | None


class Ranking(TypedDict):
    """The order in which to show the items; recorded, and to be rated like an answer."""

    __pydantic_config__ = ONLY  # type: ignore[misc]

    object: Literal["ranking"]
    id: str
    model: str
    items: list[RankedPlace]
    policy: Annotated[dict[str, Any], Field(description="by what rule the order was chosen")]
    flywheel: Rating


class ConsentTaken(TypedDict):
    """The statement is durable."""

    __pydantic_config__ = ONLY  # type: ignore[misc]

    recorded: Annotated[int, Field(description="purposes it was about")]


class Alive(TypedDict):
    """The process lives."""

    __pydantic_config__ = ONLY  # type: ignore[misc]

    status: Literal["ok"]


class Ready(TypedDict):
    """A live model is known and its engine answers."""

    __pydantic_config__ = ONLY  # type: ignore[misc]

    status: Literal["ready"]
    live: Annotated[str, Field(description="version")]
    routing: Annotated[int, Field(description="number of the routing object in force")]


class ErrorDetail(TypedDict):
    """Why."""

    __pydantic_config__ = ONLY  # type: ignore[misc]

    message: str
    type: str
    param: Annotated[str | None, Field(description="the field, where one is to blame")]
    code: str | None


class ErrorBody(TypedDict):
    """Every error, in OpenAI's shape."""

    __pydantic_config__ = ONLY  # type: ignore[misc]

    error: ErrorDetail
    recorded: NotRequired[Annotated[int, Field(description="a batch of feedback of which nothing was taken: 0")]]
    refused: NotRequired[Annotated[int, Field(description="of such a batch")]]
    results: NotRequired[Annotated[list[dict[str, Any]], Field(description="of such a batch: each one's error")]]
