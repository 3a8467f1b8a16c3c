"""The HTTP routes. Thin: read, check, call the gateway, say it in OpenAI's shape."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from flywheel.gateway.asked import read_json
from flywheel.gateway.auth import Caller
from flywheel.gateway.chat import Stream
from flywheel.gateway.hot_routes import shorten
from flywheel.gateway.problems import ApiProblem
from flywheel.gateway.service import Gateway

HEADER_ID, HEADER_TOKEN = "x-flywheel-inference-id", "x-flywheel-feedback-token"


class Json(Response):
    """JSON without FastAPI's re-validation; text as it is, without escapes."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Bytes of the body."""
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


class Events(StreamingResponse):
    """Server-sent events that always end their ``Stream``, also when the client left while it was being sent to."""

    media_type = "text/event-stream"

    def __init__(self, stream: Stream, headers: dict[str, str], finish: Callable[[], None]) -> None:
        super().__init__(stream.events(), headers={**headers, "cache-control": "no-cache", "x-accel-buffering": "no"})
        self._stream, self._finish = stream, finish

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send, then end."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._stream.end()
            self._finish()


def build_app(gateway: Gateway) -> FastAPI:
    """The ASGI application around a gateway; starts and stops it with its own life."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await gateway.start()
        yield
        await gateway.stop()

    app = FastAPI(title="Flywheel gateway", lifespan=lifespan)
    app.add_exception_handler(ApiProblem, _problem)
    app.add_exception_handler(HTTPException, _http_problem)
    _add_chat(app, gateway)
    _add_reactions(app, gateway)
    _add_state(app, gateway)
    shorten(app, {"/v1/chat/completions", "/v1/completions", "/v1/feedback"})
    return app


def _add_chat(app: FastAPI, gateway: Gateway) -> None:
    @app.post("/v1/chat/completions", response_model=None)
    async def chat(request: Request) -> Response:
        """OpenAI's chat completions, streamed or not, answered by the live model."""
        caller, body = await _body(request, gateway)
        gateway.admit(request.headers.get("x-flywheel-flow"))
        asked = gateway.asked(caller, body, request.headers)
        gateway.begin()
        handed_over = False
        try:
            answer = await gateway.chat(asked)
            headers = {HEADER_ID: asked.inference_id}
            if isinstance(answer, Stream):
                handed_over = True
                return Events(answer, {**headers, HEADER_TOKEN: answer.token}, gateway.finish)
            return Json(answer, headers={**headers, HEADER_TOKEN: answer["flywheel"]["feedback_token"]})
        finally:
            if not handed_over:
                gateway.finish()

    @app.get("/v1/models", response_model=None)
    async def models(request: Request) -> Response:
        """The names that ``model`` may have; the first is the flow, which always means the live model."""
        gateway.keys.check(request.headers.get("authorization"))
        names = gateway.models()
        return Json(
            {
                "object": "list",
                "data": [{"id": name, "object": "model", "created": 0, "owned_by": "flywheel"} for name in names],
            }
        )


def _add_reactions(app: FastAPI, gateway: Gateway) -> None:
    @app.post("/v1/feedback", response_model=None)
    async def feedback(request: Request) -> Response:
        """One reaction to one answer; acknowledged once it is durable."""
        return Json({"feedback_id": await gateway.feedback(*await _body(request, gateway))})

    @app.post("/v1/consent", response_model=None)
    async def consent(request: Request) -> Response:
        """A user's standing statement; acknowledged once it is durable."""
        return Json({"recorded": await gateway.consent(*await _body(request, gateway))})


def _add_state(app: FastAPI, gateway: Gateway) -> None:
    @app.get("/healthz", response_model=None)
    async def healthz() -> Response:
        """The process lives."""
        return Json({"status": "ok"})

    @app.get("/readyz", response_model=None)
    async def readyz() -> Response:
        """A live model is known and its engine answers."""
        routing = gateway.router.live()
        return Json({"status": "ready", "live": routing.live.version, "routing": routing.n})

    @app.get("/metrics", response_model=None)
    async def metrics(request: Request) -> Response:
        """Counters of this replica, for Prometheus."""
        gateway.keys.check(request.headers.get("authorization"))
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


async def _body(request: Request, gateway: Gateway) -> tuple[Caller, dict[str, Any]]:
    """Sender and body of an authorised request, at most ``max_body_bytes`` of it."""
    caller = gateway.keys.check(request.headers.get("authorization"))
    limit = gateway.config.gateway.max_body_bytes
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise _too_large(limit)
    raw = bytearray()
    async for part in request.stream():
        raw += part
        if len(raw) > limit:
            raise _too_large(limit)
    return caller, read_json(bytes(raw))


def _too_large(limit: int) -> ApiProblem:
    return ApiProblem(413, f"the body is larger than {limit} bytes", "invalid_request_error", code="body_too_large")


async def _problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiProblem)
    return JSONResponse(error.body(), status_code=error.status, headers=error.headers)


async def _http_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = "invalid_request_error" if error.status_code < 500 else "server_error"
    return JSONResponse(ApiProblem(error.status_code, str(error.detail), kind).body(), status_code=error.status_code)
