"""Every route of the application and every role: who gets in, and what the others are told."""

import asyncio

import httpx
import pytest
from fastapi import FastAPI
from starlette.routing import Route

from flywheel.capture.outbox import Outbox, outbox_folder
from flywheel.config import FlywheelConfig, load
from flywheel.gateway.access import ROUTES
from flywheel.gateway.api import build_app
from flywheel.gateway.auth import ApiKeys
from flywheel.gateway.guard import Guard
from flywheel.gateway.keys import KEY_ROLES, ApiKey, digest, new_id
from flywheel.gateway.service import Gateway
from flywheel.rollout import routing
from flywheel.rollout.routing import Variant
from flywheel.testing import FakeEngine, LocalEngines, MemoryStore


def key(secret, roles=("product",), flows=("triage",), **more):
    return ApiKey(id=new_id(), name=secret, sha256=digest(secret), roles=list(roles), flows=list(flows), **more)


ROLE_KEYS = [key(role, [role]) for role in KEY_ROLES]


@pytest.fixture
def app(tmp_path):
    config = load(FlywheelConfig, None, {"home": str(tmp_path)})
    store = MemoryStore()
    routing.publish(store, routing.bootstrap("triage", Variant(version="v1", folder="/v1"), actor="test"))
    keys = ApiKeys([*ROLE_KEYS, key("elsewhere", KEY_ROLES, ["other"]), key("all", KEY_ROLES, ["*"])])
    gateway = Gateway(
        config,
        store=store,
        engines=LocalEngines(FakeEngine("v1")),
        outbox=Outbox.open(outbox_folder(config), group_commit_ms=0),
        feedback_key=b"k",
        keys=keys,
    )
    asyncio.run(gateway.router.step())
    yield build_app(gateway)
    gateway.outbox.close()


def call(app, method, path, secret=None, **more):
    async def run():
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        headers = {"authorization": f"Bearer {secret}"} if secret else {}
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            return await client.request(method, path.replace("{model}", "x"), headers=headers, **more)

    return asyncio.run(run())


def routes(app):
    return sorted(
        (method, route.path)
        for route in app.router.routes
        if isinstance(route, Route)
        for method in route.methods - {"HEAD"}
    )


def test_every_route_is_listed(app):
    unlisted = [route for route in routes(app) if route not in ROUTES]
    assert unlisted == [], "say in gateway/access.py who may use them"


def test_every_route_asks_for_its_role_and_flow(app):
    for method, path in routes(app):
        access = ROUTES[method, path]
        if access.public:
            assert call(app, method, path).status_code != 401
            continue
        assert call(app, method, path).status_code == 401, path
        assert call(app, method, path, "unknown").status_code == 401, path
        foreign = call(app, method, path, "elsewhere")
        assert (foreign.status_code, foreign.json()["error"]["code"]) == (403, "flow_not_allowed"), path
        assert call(app, method, path, "all").status_code not in {401, 403}, path
        for role in KEY_ROLES:
            answer = call(app, method, path, role)
            if role in access.roles:
                assert answer.status_code not in {401, 403}, (path, role)
            else:
                assert (answer.status_code, answer.json()["error"]["code"]) == (403, "role_not_allowed"), (path, role)


def test_what_the_roles_are_for():
    who = {path: set(access.roles) for (_, path), access in ROUTES.items() if not access.public}
    assert who["/v1/chat/completions"] == who["/v1/consent"] == {"product"}
    assert who["/v1/feedback"] == {"product", "feedback"}
    assert who["/metrics"] == {"operator"}
    assert {path for (_, path), access in ROUTES.items() if access.public} == {"/healthz", "/readyz"}


def test_an_address_that_is_none_needs_a_key_too(app):
    assert call(app, "GET", "/v1/engines").status_code == 401
    assert call(app, "GET", "/v1/engines", "product").status_code == 404
    assert call(app, "DELETE", "/v1/feedback").status_code == 401
    assert call(app, "DELETE", "/v1/feedback", "product").status_code == 405
    assert call(app, "OPTIONS", "/v1/feedback").status_code == 401
    assert call(app, "HEAD", "/metrics").status_code == 401


def test_two_authorization_headers_are_none(app):
    async def run():
        transport = httpx.ASGITransport(app=app)
        both = [("authorization", "Bearer product"), ("authorization", "Bearer operator")]
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            return await client.get("/v1/models", headers=both)

    assert asyncio.run(run()).status_code == 401


def test_a_route_that_nobody_listed_is_for_operators():
    app = FastAPI()
    app.add_middleware(Guard, keys=ApiKeys(ROLE_KEYS), flow="triage", routes=app.router.routes)

    @app.get("/new/{thing}")
    async def new(thing: str) -> str:
        return thing

    assert {role: call(app, "GET", "/new/x", role).status_code for role in KEY_ROLES} == {
        "product": 403,
        "feedback": 403,
        "reviewer": 403,
        "operator": 200,
    }


def test_an_exhausted_key_gets_429_and_others_do_not_notice(app):
    limited = [key("few", requests_per_minute=6, burst=2), key("free")]
    app = FastAPI()
    app.add_middleware(Guard, keys=ApiKeys(limited), flow="triage", routes=app.router.routes)

    @app.get("/v1/models")
    async def models() -> str:
        return "fine"

    answers = [call(app, "GET", "/v1/models", "few") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    error = answers[-1].json()["error"]
    assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 10
    assert call(app, "GET", "/v1/models", "free").status_code == 200
