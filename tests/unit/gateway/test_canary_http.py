"""Canaries over HTTP: whatever a canary does, users get answers, and each row says who answered and why."""

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
from flywheel.gateway.breaker import FAILURES
from flywheel.gateway.problems import ApiProblem
from flywheel.gateway.service import Gateway
from flywheel.rollout import canaries, routing
from flywheel.rollout.routing import Canary, Shadow, Variant
from flywheel.testing import FakeEngine, LocalEngines, MemoryStore

WHO = {"actor": "t", "reason": "r"}


class Broken(LocalEngines):
    """Live answers; the canary does what it is told: an ``ApiProblem``, nonsense, half a stream, or nothing at all."""

    def __init__(self, how):
        super().__init__(FakeEngine("v1"), FakeEngine("can"), FakeEngine("s"))
        self.how = how
        self.patience = {}

    async def chat(self, version, body, timeout_s):
        if version != "can" or self.how is None:
            return await super().chat(version, body, timeout_s)
        if self.how == "hang":
            self.engines["can"].delay_s = 60
            return await super().chat(version, body, timeout_s)
        if isinstance(self.how, Exception):
            raise self.how
        return self.how

    async def stream(self, version, body, timeout_s):
        self.patience[version] = timeout_s
        how = self.how if version == "can" else None
        if isinstance(how, Exception):
            raise how
        if how == "hang":
            await asyncio.sleep(60)
        if isinstance(how, dict):
            yield "data: {this is no JSON\n\n"
        async for block in super().stream(version, body, timeout_s):
            yield block
            if how == "breaks off":
                raise ApiProblem(502, "boom", "server_error", code="engine_error")


class World:
    def __init__(self, tmp_path, how=None, share=0.5, **overrides):
        self.config = load(FlywheelConfig, None, {"home": str(tmp_path), "gateway.routing_poll_s": 0.02, **overrides})
        self.engines, self.store = Broken(how), MemoryStore()
        state = routing.bootstrap("triage", Variant(version="v1", folder="/v1"), actor="t")
        routing.publish(self.store, state)
        state = canaries.with_canary(state, Canary(version="can", folder="/c", share=share), **WHO)
        routing.publish(self.store, state)
        self.outbox = Outbox.open(outbox_folder(self.config), group_commit_ms=0)
        self.gateway = Gateway(
            self.config, store=self.store, engines=self.engines, outbox=self.outbox, feedback_key=b"k",
            keys=ApiKeys([]), assignment_key=b"a",
        )  # fmt: skip

    @asynccontextmanager
    async def client(self):
        await self.gateway.start()
        transport = httpx.ASGITransport(app=build_app(self.gateway), raise_app_exceptions=False)
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
                yield client
        finally:
            await self.gateway.stop()

    def rows(self):
        path = next(outbox_folder(self.config).glob("*.db"))
        with sqlite3.connect(path) as db:
            found = db.execute("select body from events where kind = 'inference' order by seq").fetchall()
        return [json.loads(body) for (body,) in found]


def ask(world, users, **more):
    async def run():
        async with world.client() as client:
            answers = []
            for user in users:
                body = {"model": "triage", "messages": [{"role": "user", "content": "hi"}], "user": user, **more}
                answers.append(await client.post("/v1/chat/completions", json=body))
            return answers, (await client.get("/v1/models")).json()

    answers, models = asyncio.run(run())
    return answers, models, world.rows()


USERS = [f"u{n}" for n in range(16)]


@pytest.mark.parametrize("stream", [False, True])
def test_users_are_split_and_the_rows_say_how(tmp_path, stream):
    answers, models, rows = ask(World(tmp_path), USERS, stream=stream)
    assert {answer.status_code for answer in answers} == {200}
    assert [model["id"] for model in models["data"]] == ["triage", "v1", "can"]
    assert {(row["model_version"], row["traffic_kind"]) for row in rows} == {("v1", "live"), ("can", "canary")}
    for row in rows:
        assert (row["eligible_variants"], row["propensity"], row["assignment"]) == (["v1", "can"], 0.5, "random")
        assert len(row["assignment_key_hash"]) == 32
        assert row["policy_version"] == 2
    assert len({row["assignment_key_hash"] for row in rows}) == len(USERS)


BREAKS = [
    ApiProblem(503, "gone", "server_error", code="engine_unavailable"),
    ApiProblem(502, "boom", "server_error", code="engine_error"),
    ApiProblem(400, "longer than my context", "invalid_request_error"),
    {"object": "chat.completion", "nonsense": 1},
    "hang",
]


@pytest.mark.parametrize("how", BREAKS, ids=["gone", "error", "refuses", "garbage", "hangs"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_broken_canary_fails_no_request_and_is_left_alone_soon(tmp_path, how, stream):
    world = World(tmp_path, how, **{"gateway.canary_timeout_s": 0.05})
    answers, _, rows = ask(world, USERS, stream=stream)
    assert {answer.status_code for answer in answers} == {200}
    assert all(
        '"error"' not in answer.text and ("HI" in answer.text or '"content":"H"' in answer.text) for answer in answers
    )
    assert len(rows) == len(USERS), "one row a request: the failed attempt is no row of its own"
    assert {row["model_version"] for row in rows} == {"v1"}
    fallen = [row for row in rows if row["assignment"] == "fallback"]
    assert 1 <= len(fallen) <= FAILURES
    for row in fallen:
        assert (row["eligible_variants"], row["propensity"], row["traffic_kind"]) == (["v1"], 1.0, "live")
        drawn = row["fallback"]
        assert (drawn["assigned"], drawn["eligible"], drawn["propensity"]) == ("can", ["v1", "can"], 0.5)
    later = [row for row in rows if row["assignment"] == "only"]
    assert later, "the breaker took it out"
    assert all(row["eligible_variants"] == ["v1"] for row in later)


def test_a_canary_whose_streams_break_off_is_left_alone_soon(tmp_path):
    world = World(tmp_path, "breaks off", share=0.999999)
    world.gateway.router.breaker._clock = lambda: 0.0  # it opens, and no pause of it ends
    answers, _, rows = ask(world, USERS[: FAILURES + 2], stream=True)
    assert [row["model_version"] for row in rows] == ["can"] * FAILURES + ["v1"] * 2
    assert ["[DONE]" in answer.text for answer in answers] == [False] * FAILURES + [True] * 2


def test_a_stream_that_its_client_left_tells_nothing_of_the_canary_and_a_whole_one_that_it_answers(tmp_path):
    world = World(tmp_path, share=0.999999)
    gateway, breaker = world.gateway, world.gateway.router.breaker
    body = {"model": "triage", "messages": [{"role": "user", "content": "hi"}], "stream": True}

    async def run():
        async with world.client() as client:
            breaker.failed("can")
            stream = await gateway.chat(gateway.asked(gateway.keys.check(None), body, {}))
            events = stream.events()
            await anext(events)
            await events.aclose()
            stream.end()
            left = dict(breaker._failures)
            await client.post("/v1/chat/completions", json=body)
            return left, dict(breaker._failures)

    assert asyncio.run(run()) == ({"can": 1}, {})


def test_a_canary_s_stream_that_began_has_as_long_as_the_live_model_s(tmp_path):
    world = World(tmp_path)
    ask(world, USERS, stream=True)
    assert world.config.gateway.canary_timeout_s < world.config.engine.request_timeout_s
    assert world.engines.patience == dict.fromkeys(["v1", "can"], world.config.engine.request_timeout_s)


def test_a_ranked_list_is_drawn_for_no_canary(tmp_path):
    world = World(tmp_path, share=0.999999)

    async def run():
        async with world.client() as client:
            return await client.post("/v1/rank", json={"items": [{"id": "a", "score": 1}], "user": "u"})

    assert asyncio.run(run()).json()["model"] == "v1"
    (row,) = world.rows()
    assert (row["model_version"], row["traffic_kind"], row["assignment"]) == ("v1", "live", "only")
    assert (row["eligible_variants"], row["propensity"]) == (["v1"], 1.0)


def test_the_time_lost_at_the_canary_is_part_of_the_answer_s_latency(tmp_path):
    _, _, rows = ask(World(tmp_path, "hang", **{"gateway.canary_timeout_s": 0.2}), USERS)
    fallen = [row for row in rows if row["assignment"] == "fallback"]
    assert fallen
    assert all(row["latency_ms"] >= 200 for row in fallen)


def test_a_request_that_both_refuse_is_the_request_s_fault(tmp_path):
    world = World(tmp_path, share=0.999999)

    async def run():
        async with world.client() as client:
            body = {"model": "triage", "messages": [{"role": "user", "content": "FAIL"}], "user": "u"}
            return [(await client.post("/v1/chat/completions", json=body)).status_code for _ in range(FAILURES + 2)]

    assert set(asyncio.run(run())) == {400}
    assert world.gateway.router.breaker.closed("can"), "it answers what can be answered"
    assert world.rows() == []


def test_a_full_disk_is_not_asked_of_the_live_model_too(tmp_path):
    world = World(tmp_path, share=0.999999)

    async def full(_events):
        raise CaptureError("no space left")

    world.outbox.append = full
    (answer,), _, _ = ask(world, ["u"])
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_recorded")
    assert (len(world.engines.engines["can"].bodies), len(world.engines.engines["v1"].bodies)) == (1, 0)


def test_a_named_canary_answers_and_is_no_part_of_the_draw(tmp_path):
    answers, _, rows = ask(World(tmp_path), USERS, model="can")
    assert {answer.json()["model"] for answer in answers} == {"can"}
    assert {(row["assignment"], row["propensity"], tuple(row["eligible_variants"])) for row in rows} == {
        ("pinned", 1.0, ("can",))
    }


def test_an_unknown_model_is_refused_and_counts_as_no_assignment(tmp_path):
    answers, _, rows = ask(World(tmp_path), ["u"], model="gpt-4")
    assert (answers[0].status_code, rows) == (404, [])


def test_shadows_see_what_the_live_model_answered_only(tmp_path):
    world = World(tmp_path)
    state = routing.current(world.store, "triage")
    routing.publish(world.store, routing.with_shadow(state, Shadow(version="s", folder="/s"), **WHO))

    async def run():
        async with world.client() as client:
            for user in USERS:
                body = {"model": "triage", "messages": [{"role": "user", "content": "hi"}], "user": user}
                await client.post("/v1/chat/completions", json=body, headers={"x-flywheel-consent": "evaluation"})
            live = sum(row["model_version"] == "v1" for row in world.rows())
            for _ in range(300):
                if len(world.engines.engines["s"].bodies) >= live:
                    break
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            return live

    live = asyncio.run(run())
    assert 0 < live < len(USERS)
    assert len(world.engines.engines["s"].bodies) == live
