"""The one check of every request: whose key, which role, which flow, what is left of its limits.

It stands before the routes, so that a route cannot forget it: what is not in the table is for operators, and an
address that does not exist answers 401 without a key like any other.
"""

from __future__ import annotations

from typing import Final

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from flywheel.gateway import metrics
from flywheel.gateway.access import ANY_KEY, OPERATE, PUBLIC, ROUTES, Access, check_access
from flywheel.gateway.auth import ApiKeys, Caller
from flywheel.gateway.problems import ApiProblem

CALLER: Final = "flywheel.caller"
"""Where the caller lies in the scope of an admitted request."""


class Guard:
    """ASGI middleware around the gateway's routes.

    Args:
        app: what is guarded.
        keys: who may come in.
        flow: what this gateway serves.
        routes: of the guarded application, to tell a route nobody listed from an address that is none.
    """

    def __init__(self, app: ASGIApp, *, keys: ApiKeys, flow: str, routes: list[BaseRoute]) -> None:
        self._app, self._keys, self._flow, self._routes = app, keys, flow, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer it with what is wrong."""
        if scope["type"] == "http":
            try:
                scope[CALLER] = self._admitted(scope)
            except ApiProblem as problem:
                metrics.REFUSED.labels(problem.code or str(problem.status)).inc()
                response = JSONResponse(problem.body(), status_code=problem.status, headers=problem.headers)
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _admitted(self, scope: Scope) -> Caller:
        access = self._access(scope)
        if access is PUBLIC:
            return NOBODY
        caller = self._keys.check(_authorization(scope))
        check_access(caller, access, self._flow)
        if caller.meter is not None:
            caller.meter.admit(generates=access.generates)
        return caller

    def _access(self, scope: Scope) -> Access:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        known = ROUTES.get((method, scope["path"]))
        if known is not None:
            return known
        for route in self._routes:
            if route.matches(scope)[0] is Match.FULL:
                return ROUTES.get((method, getattr(route, "path", "")), OPERATE)
        return ANY_KEY  # answered with 404 or 405


NOBODY: Final = Caller("", roles=frozenset(), flows=frozenset())
"""Whoever asks a public route: no tenant, no rights."""


def caller_of(request: HTTPConnection) -> Caller:
    """Who sent an admitted request."""
    return request.scope[CALLER]


def _authorization(scope: Scope) -> str | None:
    found = [value for name, value in scope["headers"] if name == b"authorization"]
    return found[0].decode("latin-1") if len(found) == 1 else None
