"""Answers as they go out: JSON, server-sent events, errors in OpenAI's shape, each with the id of its request."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from flywheel.gateway.chat import Stream
from flywheel.gateway.patience import Patience
from flywheel.gateway.problems import ApiProblem

REQUEST_ID = "flywheel.request_id"
"""Where ``Edge`` leaves the id in an ASGI scope."""
CODES = {404: "unknown_url", 405: "method_not_allowed"}
log = logging.getLogger(__name__)


class Json(Response):
    """JSON without re-validation; text as it is, without escapes."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Bytes of the body."""
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


class Events(StreamingResponse):
    """Server-sent events that always end their ``Stream``, also when the client left while it was being sent to."""

    media_type = "text/event-stream"

    def __init__(self, stream: Stream, headers: dict[str, str], finish: Callable[[], None], patience_s: float) -> None:
        self._patience_s = patience_s
        super().__init__(stream.events(), headers={**headers, "cache-control": "no-cache", "x-accel-buffering": "no"})
        self._stream, self._finish = stream, finish

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send, then end."""
        try:
            async with Patience(send, self._patience_s) as patient:
                await super().__call__(scope, receive, patient.send)
        finally:
            self._stream.end()
            self._finish()


def request_id(request: Request) -> str:
    """The id that ``Edge`` gave this request."""
    return request.scope[REQUEST_ID]


async def problem(_request: Request, error: Exception) -> Response:
    """An ``ApiProblem`` as the client gets it."""
    assert isinstance(error, ApiProblem)
    return Json(error.body(), error.status, error.headers)


async def http_problem(request: Request, error: Exception) -> Response:
    """What the router refuses: unknown routes (404) and wrong methods (405, with ``allow``)."""
    assert isinstance(error, HTTPException)
    kind = "invalid_request_error" if error.status_code < 500 else "server_error"
    where = f"{request.method[:16]} {request.url.path[:200]}"
    said = ApiProblem(
        error.status_code,
        f"{error.detail}: {where}; the routes are in /openapi.json",
        kind,
        code=CODES.get(error.status_code),
    )
    return Json(said.body(), said.status, error.headers)


async def crash(request: Request, error: Exception) -> Response:
    """A mistake in this program. The client learns the id under which the log holds the traceback."""
    outer = request.headers.get("x-request-id", "")  # Serve's, which the client sees when we are behind it
    log.error("request %s %s failed: %s", request_id(request), outer[:128], type(error).__name__)
    said = ApiProblem(500, "the gateway failed; its log names this request", "server_error", code="internal_error")
    return Json(said.body(), 500, {} if outer else {"x-request-id": request_id(request)})  # this is outside of ``Edge``
