"""The document says what the code does: its routes, its bodies, its answers, its errors."""

import asyncio
import json
import re

import jsonschema
import openapi_spec_validator
import pytest
from gateway_world import World

from flywheel.config import GatewayConfig
from flywheel.gateway.asked import read_chat, read_completion
from flywheel.gateway.http.document import described
from flywheel.gateway.http.examples import EXAMPLES
from flywheel.gateway.http.operations import OPERATIONS
from flywheel.gateway.reactions import read_consent_body

DOCUMENT = described(GatewayConfig())
READERS = {
    "ChatBody": lambda body: read_chat(body, {}, tenant="t", default_max_tokens=1),
    "CompletionBody": lambda body: read_completion(body, {}, tenant="t", default_max_tokens=1),
    "ConsentSent": read_consent_body,
}
ASK = {"messages": [{"role": "user", "content": "hi"}]}


def conforms(value, schema):
    jsonschema.validate(value, {**schema, "components": DOCUMENT["components"]})


def content(path, method, status="200"):
    answer = DOCUMENT["paths"][path][method]["responses"][status]
    if "$ref" in answer:
        answer = DOCUMENT["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    return answer["content"]


def run(world, use):
    async def inner():
        async with world.http() as client:
            return await use(client)

    return asyncio.run(inner())


def test_it_is_a_valid_openapi_document():
    openapi_spec_validator.validate(DOCUMENT)


def test_it_names_no_other_host():
    assert not re.findall(r"https?://", json.dumps(DOCUMENT))


def test_it_has_every_route_of_the_application_and_no_other(tmp_path):
    world = World(tmp_path)
    asyncio.run(world.gateway.stop())
    routes = {
        (method.lower(), route.path) for route in world.app.routes for method in route.methods if method != "HEAD"
    }
    assert routes == {(operation.method, operation.path) for operation in OPERATIONS}, (
        "describe it in http/operations.py"
    )


@pytest.mark.parametrize(("schema", "name"), [(schema, name) for schema in EXAMPLES for name in EXAMPLES[schema]])
def test_examples_are_valid_and_accepted(schema, name):
    conforms(EXAMPLES[schema][name], {"$ref": f"#/components/schemas/{schema}"})
    READERS[schema](EXAMPLES[schema][name])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {**ASK, "n": 2, "logprobs": True, "top_logprobs": 1}),
        ("/v1/chat/completions", EXAMPLES["ChatBody"]["tools"] | {"tool_choice": "required"}),
        ("/v1/completions", {"prompt": "hi"}),
        ("/v1/consent", EXAMPLES["ConsentSent"]["granted"]),
    ],
)
def test_answers_are_as_described(tmp_path, path, body):
    answer = run(World(tmp_path), lambda client: client.post(path, json=body))
    assert answer.status_code == 200
    conforms(answer.json(), content(path, "post")["application/json"]["schema"])


@pytest.mark.parametrize("path", ["/v1/models", "/healthz", "/readyz", "/openapi.json"])
def test_what_is_read_is_as_described_with_head_too(tmp_path, path):
    async def use(client):
        return await client.get(path), await client.head(path)

    answer, head = run(World(tmp_path), use)
    assert answer.headers["x-request-id"] != head.headers["x-request-id"]
    assert (answer.status_code, head.status_code, head.content) == (200, 200, b"")
    conforms(answer.json(), content(path, "get")["application/json"]["schema"])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {**ASK, "n": 2}),
        ("/v1/chat/completions", EXAMPLES["ChatBody"]["tools"] | {"tool_choice": "required"}),
        ("/v1/completions", {"prompt": "hi"}),
    ],
)
def test_events_are_as_described(tmp_path, path, body):
    answer = run(World(tmp_path), lambda client: client.post(path, json={**body, "stream": True}))
    described_as = content(path, "post")["text/event-stream"]
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert events.pop() == "[DONE]"
    for event in events:
        conforms(json.loads(event), described_as["x-event"])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("GET", "/nothing", 404),
        ("GET", "/healthz/", 404),
        ("POST", "/v1/chat/completions/", 404),
        ("GET", "/docs", 404),
        ("GET", "/redoc", 404),
        ("POST", "/v1/feedback", 400),
        ("POST", "/v1/consent", 400),
    ],
)
def test_errors_have_one_shape_an_id_and_no_redirect(tmp_path, method, path, status):
    answer = run(World(tmp_path), lambda client: client.request(method, path))
    assert answer.status_code == status
    assert answer.headers["x-request-id"]
    conforms(answer.json(), {"$ref": "#/components/schemas/ErrorBody"})
    assert ("allow" in answer.headers) == (status == 405)


def test_a_crash_is_told_with_the_id_that_the_log_holds(tmp_path, caplog):
    world = World(tmp_path)

    def broken(*_, **__):
        raise RuntimeError("secret detail")

    async def use(client):
        world.gateway.models = broken
        return await client.get("/v1/models")

    answer = run(world, use)
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"] in caplog.text
    conforms(answer.json(), {"$ref": "#/components/schemas/ErrorBody"})


def test_the_document_needs_a_key_where_keys_are_set(tmp_path):
    async def use(client):
        key = {"authorization": "Bearer secret"}
        return await client.get("/openapi.json"), await client.get("/openapi.json", headers=key)

    without, with_key = run(World(tmp_path, keys=("secret",)), use)
    assert (without.status_code, with_key.status_code) == (401, 200)
