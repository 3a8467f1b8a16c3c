"""A shortened route answers as FastAPI's does, and stays in the OpenAPI document."""

import httpx
import pytest
from fastapi import Depends, FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from flywheel.gateway.engine_client import split_events
from flywheel.gateway.hot_routes import shorten


def an_app():
    app = FastAPI()

    @app.exception_handler(HTTPException)
    async def said(_request, error):
        return JSONResponse({"said": error.detail}, status_code=error.status_code)

    @app.post("/plain", response_model=None)
    async def plain(request: Request) -> Response:
        if not await request.body():
            raise HTTPException(400, "empty")
        return JSONResponse({"got": (await request.body()).decode(), "by": request.scope["route"].__class__.__name__})

    @app.post("/guarded", response_model=None, dependencies=[Depends(lambda: None)])
    async def guarded(request: Request) -> Response:
        return JSONResponse({"by": request.scope["route"].__class__.__name__})

    @app.post("/typed")
    async def typed(request: Request, size: int) -> dict:
        return {"size": size}

    return app


async def post(app, path, content=b"x"):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://g") as client:
        return await client.post(path, content=content)


@pytest.mark.anyio
async def test_only_what_takes_the_request_alone_is_shortened():
    app = an_app()
    assert shorten(app, {"/plain", "/guarded", "/typed", "/absent"}) == ["/plain"]
    assert (await post(app, "/plain")).json() == {"got": "x", "by": "Route"}
    assert (await post(app, "/guarded")).json() == {"by": "APIRoute"}
    assert (await post(app, "/typed?size=3")).json() == {"size": 3}
    assert (await post(app, "/typed?size=x")).status_code == 422


@pytest.mark.anyio
async def test_errors_methods_and_the_document_are_as_before():
    before, after = an_app(), an_app()
    shorten(after, {"/plain"})
    for app in (before, after):
        refused = await post(app, "/plain", b"")
        assert (refused.status_code, refused.json()) == (400, {"said": "empty"})
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://g") as client:
            assert (await client.get("/plain")).status_code == 405
    assert after.openapi() == before.openapi()


def test_a_piece_is_split_into_its_events():
    assert split_events("data: a\n\n") == ["data: a\n\n"]
    assert split_events("data: a\n\ndata: b\n\ndata: [DONE]\n\n") == ["data: a\n\n", "data: b\n\n", "data: [DONE]\n\n"]
