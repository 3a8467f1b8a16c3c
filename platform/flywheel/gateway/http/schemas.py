"""Components of the document: every schema from the type the code checks with, or, for answers, is tested against."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import TypeAdapter

from flywheel.gateway.protocol import answers
from flywheel.gateway.protocol.requests import CHAT, COMPLETION
from flywheel.gateway.rank_request import RankSent
from flywheel.gateway.reactions import ConsentSent, FeedbackBatch, FeedbackSent

REF = "#/components/schemas/{model}"
Mode = Literal["validation", "serialization"]

ADAPTERS: dict[str, TypeAdapter[Any]] = {
    "ChatBody": CHAT,
    "CompletionBody": COMPLETION,
    "FeedbackSent": TypeAdapter(FeedbackSent),
    "FeedbackBatch": TypeAdapter(FeedbackBatch),
    "ConsentSent": TypeAdapter(ConsentSent),
    "RankSent": TypeAdapter(RankSent),
    **{
        name: TypeAdapter(getattr(answers, name))
        for name in (
            "ChatCompletion", "ChatCompletionChunk", "TextCompletion", "ModelList", "FeedbackTaken", "ConsentTaken",
            "BatchTaken", "Ranking",
            "Alive", "Ready", "ErrorBody",
        )
    },
}  # fmt: skip
"""Every schema that an operation names; what they contain comes along."""

ERRORS = {
    400: "The request is malformed; `param` names the field. Repeating it does not help.",
    401: "No valid key, or feedback without its token.",
    403: "The key or the feedback token does not allow this.",
    404: "No such route, flow or model.",
    408: "The body came too slowly.",
    413: "The body is too large. Refused by its announced length before it is read.",
    414: "The address is too long.",
    429: "Too many requests; `retry-after` says when to come back.",
    431: "Too many headers, or too large ones.",
    500: "The gateway failed; `x-request-id` finds it in the log.",
    502: "The engine gave no readable answer.",
    503: "No live model, or the event could not be made durable; `retry-after` says when to come back.",
    504: "The engine did not answer in time.",
}
NAMES = {status: f"Error{status}" for status in ERRORS}


def components() -> dict[str, Any]:
    """Schemas, error responses, headers and the security scheme."""
    return {
        "schemas": _schemas(),
        "responses": {NAMES[status]: _error(status, text) for status, text in ERRORS.items()},
        "headers": {
            "RequestId": {"description": "id of the request, in the logs too", "schema": _TEXT},
            "RetryAfter": {"description": "seconds", "schema": {"type": "string", "pattern": "^[0-9]+$"}},
        },
        "securitySchemes": {
            "key": {"type": "http", "scheme": "bearer", "description": "an API key; not asked for on loopback"}
        },
    }


_TEXT = {"type": "string"}


def _schemas() -> dict[str, Any]:
    inputs: list[tuple[str, Mode, TypeAdapter[Any]]] = [
        (name, "validation", adapter) for name, adapter in ADAPTERS.items()
    ]
    _, made = TypeAdapter.json_schemas(inputs, ref_template=REF)
    return made["$defs"]


def _error(status: int, text: str) -> dict[str, Any]:
    headers = {"x-request-id": {"$ref": "#/components/headers/RequestId"}}
    if status in (429, 503):
        headers["retry-after"] = {"$ref": "#/components/headers/RetryAfter"}
    return {
        "description": text,
        "headers": headers,
        "content": {"application/json": {"schema": {"$ref": REF.format(model="ErrorBody")}}},
    }
