"""The outermost layer: refuses requests by their headers and gives each one its id. Costs a few microseconds."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid6 import uuid7

from flywheel.gateway.http.respond import REQUEST_ID, Json
from flywheel.gateway.problems import ApiProblem

MAX_HEADERS = 100
MAX_HEADER_BYTES = 32_768
MAX_TARGET_BYTES = 8_192


class Edge:
    """ASGI middleware: 431 and 414 before anything is read; ``scope["flywheel.request_id"]`` for the rest.

    The id of a request for an answer becomes its inference id, so one id names the request in logs, rows and answers.
    """

    def __init__(self, app: ASGIApp, *, tag: bool = True) -> None:
        """``tag``: put the id on answers as ``x-request-id``. Not behind Serve, which puts its own there."""
        self._app, self._tag = app, tag

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope[REQUEST_ID] = identifier = str(uuid7())
        header = (b"x-request-id", identifier.encode())

        async def tagged(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        problem = _too_much(scope)
        app = self._app if problem is None else Json(problem.body(), problem.status, problem.headers)
        await app(scope, receive, tagged if self._tag else send)


def _too_much(scope: Scope) -> ApiProblem | None:
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    if len(headers) > MAX_HEADERS or sum(len(name) + len(value) for name, value in headers) > MAX_HEADER_BYTES:
        text = f"the headers are more than {MAX_HEADERS}, or larger than {MAX_HEADER_BYTES} bytes"
        return ApiProblem(431, text, "invalid_request_error", code="headers_too_large", close=True)
    if len(scope["path"]) + len(scope.get("query_string", b"")) > MAX_TARGET_BYTES:
        text = f"the address is longer than {MAX_TARGET_BYTES} bytes"
        return ApiProblem(414, text, "invalid_request_error", code="address_too_long", close=True)
    return None
