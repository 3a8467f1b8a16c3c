"""The routes, as data: what each takes and answers. A test holds this together with the application's own routes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flywheel.gateway.asked import CONSENT_PATTERN, MAX_ID, PARENT_PATTERN, YES_PATTERN
from flywheel.gateway.http.examples import EXAMPLES
from flywheel.gateway.http.schemas import NAMES, REF

ALWAYS = (401, 414, 431, 500)
WITH_BODY = (400, 408, 413, 503)
ENGINE = (404, 429, 502, 504)
CONTEXT = {
    "x-flywheel-flow": "refused with 404 when it is not this gateway's flow",
    "x-flywheel-session": "conversation the request belongs to",
    "x-flywheel-parent": "id of the answer that this request continues or asks again",
    "x-flywheel-user": "whose request this is, where the body has no `user`; stored as a pseudonym",
    "x-flywheel-consent": "purposes the user agreed to: training, evaluation, third_party, or none",
}

TWO = {"x-flywheel-side-by-side": "yes: the product can show two answers, of which its user prefers one"}
PATTERNS = {
    "x-flywheel-parent": PARENT_PATTERN, "x-flywheel-consent": CONSENT_PATTERN, "x-flywheel-side-by-side": YES_PATTERN,
}  # fmt: skip


@dataclass(frozen=True)
class Operation:
    """One route and method."""

    method: str
    path: str
    name: str
    summary: str
    answer: str | None = None
    """Schema of the 200; None: plain text."""
    body: str | None = None
    event: str | None = None
    """Schema of one event, where the answer may be streamed."""
    errors: tuple[int, ...] = ()
    open: bool = False
    """No key is asked for."""
    headers: dict[str, str] = field(default_factory=dict)
    batch: tuple[str, str] | None = None
    """Schemas of a batch in one body, and of what is answered to it: 200, or 207 when only some were taken."""


OPERATIONS = (
    Operation(
        "post", "/v1/chat/completions", "createChatCompletion", "Answer a conversation", "ChatCompletion", "ChatBody",
        "ChatCompletionChunk", (*WITH_BODY, *ENGINE), headers=CONTEXT | TWO,
    ),
    Operation(
        "post", "/v1/completions", "createCompletion", "Complete a raw prompt", "TextCompletion", "CompletionBody",
        "TextCompletion", (*WITH_BODY, *ENGINE), headers=CONTEXT,
    ),
    Operation(
        "post", "/v1/rank", "rank", "Order items; recorded with the chance of the order", "Ranking", "RankSent",
        errors=(*WITH_BODY, 404, 429), headers=CONTEXT,
    ),
    Operation("get", "/v1/models", "listModels", "Names that `model` may have", "ModelList"),
    Operation(
        "post", "/v1/feedback", "sendFeedback", "React to an answer; acknowledged once durable", "FeedbackTaken",
        "FeedbackSent", errors=(*WITH_BODY, 403, 404, 429), batch=("FeedbackBatch", "BatchTaken"),
    ),
    Operation(
        "post", "/v1/consent", "stateConsent", "A user's standing consent; acknowledged once durable", "ConsentTaken",
        "ConsentSent", errors=(*WITH_BODY, 404, 429),
    ),
    Operation("get", "/healthz", "health", "Whether the process lives", "Alive", open=True),
    Operation("get", "/readyz", "ready", "Whether it can answer, and record it", "Ready", errors=(503,), open=True),
    Operation("get", "/metrics", "metrics", "Counters of this replica, for Prometheus"),
    Operation("get", "/openapi.json", "openapi", "This document"),
)  # fmt: skip


def paths() -> dict[str, Any]:
    """The ``paths`` of the document."""
    made: dict[str, Any] = {}
    for operation in OPERATIONS:
        made.setdefault(operation.path, {})[operation.method] = _operation(operation)
    return made


def _operation(operation: Operation) -> dict[str, Any]:
    errors = sorted({*ALWAYS, *operation.errors} - ({401} if operation.open else set()))
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "responses": {
            "200": _answer(operation),
            **({"207": _partly(operation.batch[1])} if operation.batch else {}),
            **{str(status): {"$ref": f"#/components/responses/{NAMES[status]}"} for status in errors},
        },
    }
    if operation.open:
        described["security"] = []
    if operation.body:
        described["requestBody"] = _body(operation.body, operation.batch[0] if operation.batch else None)
    if operation.headers:
        described["parameters"] = [_header(name, text) for name, text in operation.headers.items()]
    return described


def _answer(operation: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if operation.answer:
        content["application/json"] = {"schema": _either(operation.answer, operation.batch and operation.batch[1])}
    elif operation.path == "/openapi.json":
        content["application/json"] = {"schema": {"type": "object"}}
    else:
        content["text/plain"] = {"schema": {"type": "string"}}
    if operation.event:
        # each event is `data: ` and one object of this schema; OpenAPI 3.1 cannot say that of a stream
        content["text/event-stream"] = {"schema": {"type": "string"}, "x-event": _ref(operation.event)}
    return {
        "description": operation.summary,
        "headers": {"x-request-id": {"$ref": "#/components/headers/RequestId"}},
        "content": content,
    }


def _partly(schema: str) -> dict[str, Any]:
    return {
        "description": "Some of the batch were taken; the results say which.",
        "headers": {"x-request-id": {"$ref": "#/components/headers/RequestId"}},
        "content": {"application/json": {"schema": _ref(schema)}},
    }


def _either(schema: str, batch: str | None) -> dict[str, Any]:
    return {"anyOf": [_ref(schema), _ref(batch)]} if batch else _ref(schema)


def _body(schema: str, batch: str | None) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": _either(schema, batch)}
    if examples := EXAMPLES.get(schema):
        content["examples"] = {name: {"value": value} for name, value in examples.items()}
    return {"required": True, "content": {"application/json": content}}


def _header(name: str, text: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string", "maxLength": MAX_ID}
    if pattern := PATTERNS.get(name):
        schema = {"type": "string", "pattern": f"^({pattern})?$"}  # empty: as if it were not there
    return {"name": name, "in": "header", "required": False, "description": text, "schema": schema}


def _ref(schema: str) -> dict[str, str]:
    return {"$ref": REF.format(model=schema)}
