"""The HTTP routes. Thin: read, check, call the gateway, say it in OpenAI's shape."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.responses import Response

from flywheel.gateway.auth import Caller
from flywheel.gateway.chat import Stream
from flywheel.gateway.guard import Guard, caller_of
from flywheel.gateway.http import respond
from flywheel.gateway.http.body import read_body
from flywheel.gateway.http.document import TITLE, document
from flywheel.gateway.http.edge import Edge
from flywheel.gateway.http.respond import Events, Json
from flywheel.gateway.problems import ApiProblem, unavailable
from flywheel.gateway.protocol.freeform import read_json
from flywheel.gateway.service import Gateway
from flywheel.records import Api

HEADER_ID, HEADER_TOKEN = "x-flywheel-inference-id", "x-flywheel-feedback-token"


def build_app(gateway: Gateway, *, tag_requests: bool = True) -> FastAPI:
    """The ASGI application around a gateway; starts and stops it with its own life. ``tag_requests``: see ``Edge``."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await gateway.start()
        yield
        await gateway.stop()

    # no interactive pages: they would load scripts from other hosts. No redirects: a proxy in front breaks them
    app = FastAPI(
        title=TITLE, lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False
    )
    app.add_exception_handler(ApiProblem, respond.problem)
    app.add_exception_handler(HTTPException, respond.http_problem)
    app.add_exception_handler(Exception, respond.crash)
    app.add_middleware(Guard, keys=gateway.keys, flow=gateway.config.flow, routes=app.router.routes)
    app.add_middleware(Edge, tag=tag_requests)  # outermost: what the guard refuses has an id too
    _add_answers(app, gateway)
    _add_reactions(app, gateway)
    _add_state(app, gateway)
    return app


def _add_answers(app: FastAPI, gateway: Gateway) -> None:
    """Routes of the hot path are plain ones: FastAPI's cost tens of microseconds a request and add nothing here."""

    async def answer(request: Request, api: Api) -> Response:
        caller, body = await _body(request, gateway)
        gateway.admit(request.headers.get("x-flywheel-flow"))
        asked = gateway.asked(caller, body, request.headers, api=api, inference_id=respond.request_id(request))
        gateway.begin()
        handed_over = False
        headers = {HEADER_ID: asked.inference_id}
        try:
            answer = await gateway.chat(asked)
            if isinstance(answer, Stream):
                handed_over = True
                return Events(
                    answer, headers | _token(answer.token), gateway.finish, gateway.config.gateway.write_timeout_s
                )
            return Json(answer, headers=headers | _token(answer["flywheel"]["feedback_token"]))
        finally:
            if not handed_over:
                gateway.finish()

    async def chat(request: Request) -> Response:
        """OpenAI's chat completions, streamed or not, answered by the live model."""
        return await answer(request, "chat")

    async def completion(request: Request) -> Response:
        """OpenAI's completions of a raw prompt, streamed or not, answered by the live model."""
        return await answer(request, "completion")

    async def rank(request: Request) -> Response:
        """An order for the product's items, drawn by a policy over a ranker's scores; recorded with its chance."""
        caller, body = await _body(request, gateway)
        gateway.admit(request.headers.get("x-flywheel-flow"))
        gateway.begin()
        try:
            ranking = await gateway.rank(caller, body, request.headers)
        finally:
            gateway.finish()
        marks = ranking["flywheel"]
        return Json(ranking, headers={HEADER_ID: marks["inference_id"]} | _token(marks["feedback_token"]))

    app.add_route("/v1/chat/completions", chat, methods=["POST"])
    app.add_route("/v1/completions", completion, methods=["POST"])
    app.add_route("/v1/rank", rank, methods=["POST"])

    async def models(_: Request) -> Response:
        """The names that ``model`` may have; the first is the flow, which always means the live model."""
        names = gateway.models()
        return Json(
            {
                "object": "list",
                "data": [{"id": name, "object": "model", "created": 0, "owned_by": "flywheel"} for name in names],
            }
        )

    app.add_route("/v1/models", models, methods=["GET"])


def _token(token: str | None) -> dict[str, str]:
    """The header that a reaction needs; none where nothing is recorded."""
    return {HEADER_TOKEN: token} if token else {}


def _add_reactions(app: FastAPI, gateway: Gateway) -> None:
    async def feedback(request: Request) -> Response:
        """A reaction to an answer or a session, or a batch of them; acknowledged once they are durable."""
        taken = await gateway.feedback(*await _body(request, gateway))
        return Json(taken.answer(), status_code=taken.status())

    async def consent(request: Request) -> Response:
        """A user's standing statement; acknowledged once it is durable."""
        return Json({"recorded": await gateway.consent(*await _body(request, gateway))})

    app.add_route("/v1/feedback", feedback, methods=["POST"])
    app.add_route("/v1/consent", consent, methods=["POST"])


def _add_state(app: FastAPI, gateway: Gateway) -> None:
    async def healthz(_: Request) -> Response:
        """The process lives."""
        return Json({"status": "ok"})

    async def readyz(_: Request) -> Response:
        """A live model is known, its engine answers, and there is room to record what is said.

        A queue that is full for a moment is no reason to send the traffic elsewhere; a full disk is.
        """
        routing = gateway.router.live()
        if (refusal := gateway.outbox.refusal()) and refusal.status == 503:
            raise unavailable(refusal.message, f"capture_{refusal.reason}", retry_after=refusal.retry_after)
        return Json({"status": "ready", "live": routing.live.version, "routing": routing.n})

    async def metrics(_: Request) -> Response:
        """Counters of this replica, for Prometheus."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    described = document(limits=gateway.config.gateway)

    async def openapi(_: Request) -> Response:
        """This document."""
        return Response(described, media_type="application/json")

    for path, endpoint in (
        ("/healthz", healthz), ("/readyz", readyz), ("/metrics", metrics), ("/openapi.json", openapi),
    ):  # fmt: skip
        app.add_route(path, endpoint, methods=["GET"])  # a plain route answers HEAD too


async def _body(request: Request, gateway: Gateway) -> tuple[Caller, dict[str, Any]]:
    """Sender and body of an admitted request, at most ``max_body_bytes`` of it."""
    return caller_of(request), read_json(await read_body(request, gateway.config.gateway.max_body_bytes))
