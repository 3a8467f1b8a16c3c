"""The HTTP service over fake engines and a real outbox: what is acknowledged is in the outbox, and only that."""

import asyncio
import json
import sqlite3
from contextlib import asynccontextmanager

import httpx
import pytest

from flywheel.capture.outbox import Outbox, outbox_folder
from flywheel.config import FlywheelConfig, load
from flywheel.errors import CaptureError
from flywheel.gateway.api import build_app
from flywheel.gateway.auth import ApiKeys
from flywheel.gateway.keys import KEY_ROLES, ApiKey, digest, new_id
from flywheel.gateway.service import Gateway
from flywheel.rollout import routing
from flywheel.rollout.routing import Shadow, Variant
from flywheel.testing import FakeEngine, LocalEngines, MemoryStore

CONSENT = {"x-flywheel-consent": "training,evaluation"}


def key_of(secret):
    return ApiKey(id=new_id(), name=secret, sha256=digest(secret), roles=list(KEY_ROLES), flows=["*"])


class World:
    def __init__(self, tmp_path, overrides=None, keys=(), engines=None, shadows=("v2",), routed=True):
        self.config = load(
            FlywheelConfig, None, {"home": str(tmp_path), "gateway.routing_poll_s": 0.02, **(overrides or {})}
        )
        self.engines = engines or LocalEngines(FakeEngine("v1"), FakeEngine("v2"), FakeEngine("v3"))
        self.store = MemoryStore()
        if routed:
            state = routing.bootstrap("triage", Variant(version="v1", folder="/v1"), actor="test")
            routing.publish(self.store, state)
            for name in shadows:
                state = routing.with_shadow(state, Shadow(version=name, folder="/x"), actor="t", reason="r")
                routing.publish(self.store, state)
        self.outbox = Outbox.open(outbox_folder(self.config), group_commit_ms=0)
        self.gateway = Gateway(
            self.config,
            store=self.store,
            engines=self.engines,
            outbox=self.outbox,
            feedback_key=b"k",
            keys=ApiKeys([key_of(key) if isinstance(key, str) else key for key in keys]),
        )
        self.app = build_app(self.gateway)

    @asynccontextmanager
    async def client(self):
        await self.gateway.start()
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
                yield client
        finally:
            await self.gateway.stop()

    def rows(self, kind=None):
        path = next(outbox_folder(self.config).glob("*.db"))
        with sqlite3.connect(path) as db:
            found = db.execute("select kind, body from events order by seq").fetchall()
        return [json.loads(body) for name, body in found if kind in {None, name}]

    def open_requests(self):
        path = next(outbox_folder(self.config).glob("*.db"))
        with sqlite3.connect(path) as db:
            return db.execute("select count(*) from open_requests").fetchone()[0]


def ask(text="hello", **more):
    return {"model": "triage", "messages": [{"role": "user", "content": text}], **more}


async def eventually(condition):
    for _ in range(300):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


def events(text):
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


def with_client(world, use):
    async def run():
        async with world.client() as client:
            return await use(client)

    return asyncio.run(run())


def test_a_unary_answer_is_recorded_before_it_is_acknowledged(tmp_path):
    world = World(tmp_path)

    async def use(client):
        answer = await client.post(
            "/v1/chat/completions",
            json=ask(user="ann", temperature=0.5),
            headers={
                **CONSENT,
                "x-flywheel-session": "s1",
                "x-flywheel-parent": "chatcmpl-01a203d6-df35-7332-a27f-6e2b001fe0a6",
            },
        )
        return answer, world.rows("inference")

    answer, rows = with_client(world, use)
    body = answer.json()
    assert answer.status_code == 200
    assert body["choices"][0]["message"]["content"] == "HELLO"
    assert body["model"] == body["flywheel"]["model_version"] == "v1"
    assert body["id"] == "chatcmpl-" + answer.headers["x-flywheel-inference-id"]
    (row,) = rows
    assert row["inference_id"] == body["flywheel"]["inference_id"]
    assert (row["subject"], row["session_id"], row["model_version"], row["policy_version"]) == ("ann", "s1", "v1", 2)
    assert row["parent_id"] == "01a203d6-df35-7332-a27f-6e2b001fe0a6"
    assert row["consent"] == ["training", "evaluation"]
    assert row["choices"] == ["HELLO"]
    assert row["finish_reason"] == "stop"
    assert row["params"]["temperature"] == 0.5


def test_a_stream_is_durable_before_its_first_byte_and_complete_before_done(tmp_path):
    world = World(tmp_path)
    seen = []
    complete, open_request = world.outbox.complete, world.outbox.open_request

    async def use(client):
        async def noting_open(row):
            await open_request(row)
            seen.append("open")

        async def noting_complete(row):
            await complete(row)
            seen.append("complete")

        world.outbox.open_request, world.outbox.complete = noting_open, noting_complete
        answer = await client.post("/v1/chat/completions", json=ask(stream=True), headers=CONSENT)
        return answer, list(seen)

    answer, order = with_client(world, use)
    assert order == ["open", "complete"]
    assert answer.text.endswith("data: [DONE]\n\n")
    chunks = events(answer.text)
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == "HELLO"
    assert chunks[0]["flywheel"]["feedback_token"] == answer.headers["x-flywheel-feedback-token"]
    assert all(c["choices"] for c in chunks), "usage was not asked for"
    (row,) = world.rows("inference")
    assert row["choices"] == ["HELLO"]
    assert row["completion_tokens"] == 3
    assert row["ttft_ms"] is not None
    assert world.open_requests() == 0


def test_usage_is_streamed_when_asked_for(tmp_path):
    async def use(client):
        return await client.post("/v1/chat/completions", json=ask(stream=True, stream_options={"include_usage": True}))

    assert events(with_client(World(tmp_path), use).text)[-1]["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_recorded_is_not_acknowledged(tmp_path, stream):
    world = World(tmp_path)

    async def broken(*_):
        raise CaptureError("the disk is full; free some space")

    async def use(client):
        world.outbox.append = world.outbox.open_request = broken
        return await client.post("/v1/chat/completions", json=ask(stream=stream))

    answer = with_client(world, use)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "not_recorded"


def test_a_stream_whose_completion_cannot_be_recorded_ends_without_done(tmp_path):
    world = World(tmp_path)

    async def broken(_):
        raise CaptureError("the disk is full; free some space")

    async def use(client):
        world.outbox.complete = broken
        return await client.post("/v1/chat/completions", json=ask(stream=True))

    answer = with_client(world, use)
    assert "[DONE]" not in answer.text
    assert events(answer.text)[-1]["error"]["code"] == "not_recorded"


def test_a_client_that_leaves_a_stream_is_recorded(tmp_path):
    world = World(tmp_path, engines=LocalEngines(FakeEngine("v1", delay_s=0.02), FakeEngine("v2")))

    async def use(_):
        body = json.dumps(ask("a long question", stream=True)).encode()
        scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": [], "query_string": b""}
        scope |= {"http_version": "1.1", "scheme": "http", "server": ("gateway", 80), "asgi": {"version": "3.0"}}
        sent, gone = [], asyncio.Event()
        inbox = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive():
            if inbox:
                return inbox.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)
            if len(sent) == 4:
                gone.set()

        await world.app(scope, receive, send)
        await eventually(lambda: world.rows("inference"))

    with_client(world, use)
    (row,) = world.rows("inference")
    assert row["finish_reason"] == "client_disconnect"
    assert 0 < len(row["choices"][0]) < len("a long question")
    assert world.open_requests() == 0


def test_a_client_that_leaves_a_unary_request_is_recorded(tmp_path):
    world = World(tmp_path, engines=LocalEngines(FakeEngine("v1"), FakeEngine("v2")))

    async def use(client):
        task = asyncio.create_task(client.post("/v1/chat/completions", json=ask("SLOW")))
        await eventually(lambda: world.engines.engines["v1"].bodies)
        task.cancel()
        await eventually(lambda: world.rows("inference"))

    with_client(world, use)
    assert [row["finish_reason"] for row in world.rows("inference")] == ["client_disconnect"]


def test_the_shadow_sees_consented_requests_only_and_is_recorded_beside_the_live_answer(tmp_path):
    world = World(tmp_path)

    async def use(client):
        await client.post("/v1/chat/completions", json=ask("no consent"))
        await client.post("/v1/chat/completions", json=ask("training only"), headers={"x-flywheel-consent": "training"})
        yes = await client.post("/v1/chat/completions", json=ask("yes"), headers=CONSENT)
        await eventually(lambda: world.rows("shadow_pair"))
        await asyncio.sleep(0.05)
        return yes.json()["flywheel"]["inference_id"]

    inference = with_client(world, use)
    (pair,) = world.rows("shadow_pair")
    assert (pair["inference_id"], pair["candidate"], pair["live_version"]) == (inference, "v2", "v1")
    assert pair["live_answer"] == pair["candidate_answer"] == "YES"
    assert [body["messages"][-1]["content"] for body in world.engines.engines["v2"].bodies] == ["yes"]


def test_a_slow_or_failing_shadow_never_reaches_the_user(tmp_path):
    world = World(
        tmp_path,
        {"gateway.shadow_timeout_s": 0.05, "gateway.shadow_concurrency": 1, "gateway.shadow_queue": 2},
        engines=LocalEngines(FakeEngine("v1"), FakeEngine("v2", delay_s=5)),
    )

    async def use(client):
        answers = await asyncio.gather(
            *(client.post("/v1/chat/completions", json=ask(f"q{i}"), headers=CONSENT) for i in range(8))
        )
        await eventually(lambda: len(world.rows("shadow_pair")) >= 2)
        return [answer.status_code for answer in answers]

    assert with_client(world, use) == [200] * 8
    pairs = world.rows("shadow_pair")
    assert all(pair["error"] and pair["candidate_answer"] is None for pair in pairs)
    assert len(pairs) < 8, "what the queue does not hold is dropped"


def test_feedback_needs_the_token_of_that_answer(tmp_path):
    world = World(tmp_path)

    async def use(client):
        one = (await client.post("/v1/chat/completions", json=ask("one"))).json()["flywheel"]
        two = (await client.post("/v1/chat/completions", json=ask("two"))).json()["flywheel"]
        good = {"inference_id": "chatcmpl-" + one["inference_id"], "feedback_token": one["feedback_token"],
                "kind": "thumbs", "value": -1, "user": "ann", "idempotency_key": "k1"}  # fmt: skip
        tries = [
            {**good, "feedback_token": None},
            {**good, "feedback_token": "made-up"},
            {**good, "feedback_token": two["feedback_token"]},
            {**good, "value": 7},
            {**good, "kind": "correction", "value": None},
            {**good, "vlaue": 1},
            good,
            good,
            {**good, "idempotency_key": "k2"},
        ]
        return [await client.post("/v1/feedback", json=body) for body in tries]

    answers = with_client(world, use)
    assert [a.status_code for a in answers] == [401, 403, 403, 400, 400, 400, 200, 200, 200]
    ids = [a.json()["feedback_id"] for a in answers[-3:]]
    assert ids[0] == ids[1] != ids[2]
    rows = world.rows("feedback")
    assert len(rows) == 3
    assert rows[0]["subject"] == "ann"


def test_consent_is_recorded_for_each_purpose(tmp_path):
    world = World(tmp_path)

    async def use(client):
        good = await client.post(
            "/v1/consent", json={"user": "ann", "purposes": ["training", "evaluation"], "state": "withdrawn"}
        )
        bad = await client.post("/v1/consent", json={"user": "ann", "purpose": "trianing", "state": "granted"})
        return good, bad

    good, bad = with_client(world, use)
    assert good.json() == {"recorded": 2}
    assert bad.status_code == 400
    assert [(row["purpose"], row["state"]) for row in world.rows("consent")] == [
        ("training", "withdrawn"),
        ("evaluation", "withdrawn"),
    ]


@pytest.mark.parametrize("ends", ["9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+05:00", "2030-01-01T00:00:00"])
def test_a_consent_must_end_at_a_moment_that_the_lake_can_hold(tmp_path, ends):
    world = World(tmp_path)

    async def use(client):
        body = {"user": "ann", "purpose": "training", "state": "granted"}
        late = {**body, "expires_at": "9999-12-31T18:59:59-05:00"}
        return [await client.post("/v1/consent", json=one) for one in ({**body, "expires_at": ends}, late)]

    refused, good = with_client(world, use)
    assert (refused.status_code, good.status_code) == (400, 200)
    assert "'expires_at'" in refused.json()["error"]["message"]
    assert [row["expires_at"] for row in world.rows("consent")] == ["9999-12-31T23:59:59Z"]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{nonsense", {}, 400),
        (b"[]", {}, 400),
        (json.dumps({"messages": []}).encode(), {}, 400),
        (json.dumps(ask(tools=[])).encode(), {}, 400),
        (json.dumps(ask(n=9)).encode(), {}, 400),
        (json.dumps({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}).encode(), {}, 400),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', {}, 400),
        (json.dumps(ask()).encode(), {"x-flywheel-consent": "trianing"}, 400),
        (json.dumps(ask()).encode(), {"x-flywheel-consent": "none, training"}, 400),
        (json.dumps(ask()).encode(), {"x-flywheel-consent": "training,,evaluation"}, 400),
        (json.dumps(ask()).encode(), {"x-flywheel-parent": "{01a203d6-df35-7332-a27f-6e2b001fe0a6}"}, 400),
        (json.dumps(ask()).encode(), {"x-flywheel-flow": "other"}, 404),
        (json.dumps({**ask(), "model": "gpt-9"}).encode(), {}, 404),
        (json.dumps(ask("x" * 5000)).encode(), {}, 413),
        (json.dumps(ask("FAIL")).encode(), {}, 400),
    ],
)
def test_bad_requests_get_an_openai_error_and_leave_no_row(tmp_path, body, headers, status):
    world = World(tmp_path, {"gateway.max_body_bytes": 4000})

    async def use(client):
        return await client.post("/v1/chat/completions", content=body, headers=headers)

    answer = with_client(world, use)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert world.rows() == []


def test_empty_headers_are_as_good_as_none(tmp_path):
    world = World(tmp_path)

    async def use(client):
        empty = dict.fromkeys(["x-flywheel-consent", "x-flywheel-parent", "x-flywheel-session", "x-flywheel-user"], "")
        return await client.post("/v1/chat/completions", json=ask(), headers=empty)

    assert with_client(world, use).status_code == 200
    [row] = world.rows()
    assert (row["consent"], row["parent_id"], row["session_id"]) == ([], None, None)


@pytest.mark.parametrize("name", ["", "triage", "v1", "v2", None])
def test_every_name_of_the_flow_is_answered_by_the_live_model(tmp_path, name):
    async def use(client):
        return await client.post("/v1/chat/completions", json={**ask(), "model": name})

    assert with_client(World(tmp_path), use).json()["model"] == "v1"


def test_too_many_at_once_get_429(tmp_path):
    world = World(tmp_path, {"gateway.max_ongoing_requests": 2}, engines=LocalEngines(FakeEngine("v1", delay_s=0.2)))

    async def use(client):
        return await asyncio.gather(*(client.post("/v1/chat/completions", json=ask()) for _ in range(4)))

    answers = with_client(world, use)
    assert sorted(a.status_code for a in answers) == [200, 200, 429, 429]
    assert all(a.headers["retry-after"] for a in answers if a.status_code == 429)


@pytest.mark.parametrize("how", ["no engine", "no routing"])
def test_without_a_live_engine_it_is_503(tmp_path, how):
    world = World(tmp_path, engines=LocalEngines(), routed=how != "no routing")

    async def use(client):
        return [
            await client.get("/readyz"),
            await client.get("/healthz"),
            await client.post("/v1/chat/completions", json=ask()),
        ]

    ready, health, chat = with_client(world, use)
    assert (ready.status_code, health.status_code, chat.status_code) == (503, 200, 503)
    assert chat.headers["retry-after"]


def test_api_keys_guard_all_but_the_probes(tmp_path):
    key = ApiKey(id=new_id(), name="k", sha256=digest("secret"), roles=["product"], flows=["triage"])
    world = World(tmp_path, keys=[key])

    async def use(client):
        return {
            "none": (await client.post("/v1/chat/completions", json=ask())).status_code,
            "wrong": (await client.get("/v1/models", headers={"authorization": "Bearer nope"})).status_code,
            "metrics": (await client.get("/metrics")).status_code,
            "right": (
                await client.post("/v1/chat/completions", json=ask(), headers={"authorization": "Bearer secret"})
            ).status_code,
            "probe": (await client.get("/readyz")).status_code,
        }

    assert with_client(world, use) == {"none": 401, "wrong": 401, "metrics": 401, "right": 200, "probe": 200}


def test_ready_says_who_is_live_and_metrics_count(tmp_path):
    async def use(client):
        await client.post("/v1/chat/completions", json=ask())
        return (
            (await client.get("/readyz")).json(),
            (await client.get("/metrics")).text,
            (await client.get("/v1/models")).json(),
        )

    ready, metrics, models = with_client(World(tmp_path), use)
    assert ready["live"] == "v1"
    assert 'flywheel_gateway_requests_total{outcome="ok"}' in metrics
    assert [m["id"] for m in models["data"]] == ["triage", "v1", "v2"]


def test_several_choices_are_all_recorded(tmp_path):
    world = World(tmp_path)

    async def use(client):
        return await client.post("/v1/chat/completions", json=ask(n=3))

    assert len(with_client(world, use).json()["choices"]) == 3
    assert world.rows("inference")[0]["choices"] == ["HELLO"] * 3
