"""What an acknowledgement means in each mode of capture, and what clients hear when nothing can be recorded."""

import asyncio
import json
import os
import sqlite3
import subprocess
import threading
from contextlib import asynccontextmanager, closing, contextmanager

import httpx
import pytest
from sync_faults import SQLITE_FULL, SQLITE_IOERR_FSYNC, SQLITE_OK, LogFaults

from flywheel.capture.losses import read_losses
from flywheel.capture.outbox import outbox_folder
from flywheel.capture.recorder import open_recorder
from flywheel.capture.ship import ship_once
from flywheel.config import FlywheelConfig, load
from flywheel.gateway.api import build_app
from flywheel.gateway.auth import ApiKeys
from flywheel.gateway.patience import Patience
from flywheel.gateway.service import Gateway
from flywheel.lake.keys import Keyring
from flywheel.lake.store import ObjectStore
from flywheel.rollout import routing
from flywheel.rollout.routing import Shadow, Variant
from flywheel.testing import FakeEngine, LocalEngines, MemoryStore

CHAT = "/v1/chat/completions"
CONSENT = {"x-flywheel-consent": "training,evaluation"}


class World:
    def __init__(self, home, *, delay_s=0.0, **settings):
        fixed = {"home": str(home), "gateway.group_commit_ms": 0, "capture.min_free_mb": 0}
        self.config = load(FlywheelConfig, None, {**fixed, **settings})
        self.engine, self.shadow = FakeEngine("v1", delay_s=delay_s), FakeEngine("v2")
        store = MemoryStore()
        state = routing.bootstrap("triage", Variant(version="v1", folder="/v1"), actor="test")
        routing.publish(store, state)
        routing.publish(
            store, routing.with_shadow(state, Shadow(version="v2", folder="/x"), actor="test", reason="test")
        )
        self.recorder = open_recorder(self.config)
        self.gateway = Gateway(
            self.config,
            store=store,
            engines=LocalEngines(self.engine, self.shadow),
            outbox=self.recorder,
            feedback_key=b"k",
            keys=ApiKeys([]),
        )
        self.app = build_app(self.gateway)

    @property
    def folder(self):
        return outbox_folder(self.config)

    @asynccontextmanager
    async def client(self):
        await self.gateway.start()
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
                yield client
        finally:
            await self.gateway.stop()

    def run(self, use):
        async def whole():
            async with self.client() as client:
                return await use(client)

        return asyncio.run(whole())

    def rows(self, kind="inference", table="events"):
        found = []
        for path in self.folder.glob("*.db"):
            with closing(sqlite3.connect(path)) as db:
                found += db.execute(
                    f"select body from {table}" + (f" where kind = '{kind}'" if kind else "")
                ).fetchall()
        return [json.loads(body) for (body,) in found]

    @contextmanager
    def log(self):
        """The faults of the recorder's log, which exists from the first write on."""
        faults = LogFaults(getattr(self.recorder, "_outbox", self.recorder)._connection)
        try:
            yield faults
        finally:
            faults.remove()


def ask(text="hello", **more):
    return {"messages": [{"role": "user", "content": text}], **more}


async def eventually(condition):
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


def code_of(answer):
    return answer.json()["error"]["code"]


def test_off_answers_without_a_token_and_keeps_nothing(tmp_path):
    world = World(tmp_path, **{"capture.mode": "off"})

    async def use(client):
        whole = await client.post(CHAT, json=ask(), headers=CONSENT)
        stream = await client.post(CHAT, json=ask(stream=True), headers=CONSENT)
        rated = await client.post("/v1/feedback", json={"inference_id": "x", "kind": "thumbs", "value": 1})
        said = await client.post("/v1/consent", json={"user": "a", "purpose": "training", "state": "granted"})
        await asyncio.sleep(0.05)
        return whole, stream, rated, said

    whole, stream, rated, said = world.run(use)
    assert whole.json()["choices"][0]["message"]["content"] == "HELLO"
    assert whole.json()["flywheel"]["feedback_token"] is None
    assert stream.text.endswith("data: [DONE]\n\n")
    for answer in (whole, stream):
        assert answer.status_code == 200
        assert "x-flywheel-feedback-token" not in answer.headers
    for refused in (rated, said):
        assert (refused.status_code, code_of(refused)) == (404, "capture_off")
        assert "capture.mode" in refused.json()["error"]["message"]
    assert not world.folder.exists()
    assert world.shadow.bodies == [], "nobody could compare what is not kept"


@pytest.mark.parametrize("stream", [False, True])
def test_async_answers_before_the_sync_and_the_row_follows(tmp_path, stream):
    world = World(tmp_path, **{"capture.mode": "async"})
    go = threading.Event()

    async def use(client):
        await client.post(CHAT, json=ask("first"))
        await eventually(world.rows)
        with world.log() as log:
            log.sync = lambda: SQLITE_OK if go.wait(30) else SQLITE_FULL
            answer = await client.post(CHAT, json=ask(stream=stream))
            early = len(world.rows())
            go.set()
            await eventually(lambda: len(world.rows()) == 2)
        return answer, early

    answer, early = world.run(use)
    assert answer.status_code == 200
    assert answer.headers["x-flywheel-feedback-token"]
    assert early == 1
    assert read_losses(world.folder, "triage") == {}


def test_async_counts_what_it_loses_by_reason(tmp_path):
    world = World(tmp_path, **{"capture.mode": "async", "capture.queue_events": 4})
    go = threading.Event()

    async def use(client):
        await client.post(CHAT, json=ask())
        await eventually(world.rows)
        with world.log() as log:
            log.sync = lambda: SQLITE_FULL if go.wait(30) else SQLITE_OK
            statuses = [(await client.post(CHAT, json=ask())).status_code for _ in range(7)]
            go.set()
            await eventually(lambda: not world.recorder._outbox._events)
        await client.post(CHAT, json=ask())
        return statuses

    assert world.run(use) == [200] * 7
    assert read_losses(world.folder, "triage") == {"queue_full": 3, "not_stored": 4}
    assert len(world.rows()) == 2


def test_async_knows_of_replicas_that_died(tmp_path):
    world = World(tmp_path, **{"capture.mode": "async"})
    assert read_losses(world.folder, "triage") == {}, "it lives"
    os.close(world.recorder._outbox._lock)  # what its death does
    assert read_losses(world.folder, "triage") == {"died": 1}


def test_async_waits_for_the_sync_of_what_people_state(tmp_path):
    world = World(tmp_path, **{"capture.mode": "async"})

    async def use(client):
        told = (await client.post(CHAT, json=ask())).json()["flywheel"]
        await eventually(world.rows)
        body = {**told, "kind": "thumbs", "value": 1}
        del body["model_version"]
        with world.log() as log:
            log.sync = lambda: SQLITE_IOERR_FSYNC
            return await client.post("/v1/feedback", json=body)

    refused = world.run(use)
    assert (refused.status_code, code_of(refused)) == (503, "not_recorded")


@pytest.mark.parametrize("fault", [SQLITE_FULL, SQLITE_IOERR_FSYNC])
def test_a_sync_that_fails_is_never_a_silent_200(tmp_path, fault):
    world = World(tmp_path)

    async def use(client):
        told = (await client.post(CHAT, json=ask())).json()["flywheel"]
        rating = {"inference_id": told["inference_id"], "feedback_token": told["feedback_token"]}
        bodies = [
            (CHAT, ask("lost")),
            (CHAT, ask("lost", stream=True)),
            ("/v1/feedback", {**rating, "kind": "thumbs", "value": 1}),
            ("/v1/consent", {"user": "ann", "purpose": "training", "state": "granted"}),
        ]
        answers = []
        with world.log() as log:
            for path, body in bodies:
                await eventually(lambda: not world.recorder.refusal())
                log.sync = lambda: fault
                answers.append(await client.post(path, json=body))
                log.sync = lambda: SQLITE_OK
        return answers, await client.post(CHAT, json=ask("kept"))

    answers, after = world.run(use)
    for answer in answers:
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
    assert after.status_code in {200, 503}


def test_a_stream_whose_last_sync_fails_has_no_done(tmp_path):
    world = World(tmp_path, delay_s=0.1)

    async def use(client):
        await client.post(CHAT, json=ask())
        with world.log() as log:
            running = asyncio.create_task(client.post(CHAT, json=ask("a long answer", stream=True)))
            await eventually(lambda: world.rows(None, "open_requests"))
            log.sync = lambda: SQLITE_IOERR_FSYNC  # the request is durable, its completion will not be
            answer = await running
            log.sync = lambda: SQLITE_OK
        return answer.status_code, answer.text

    status, text = world.run(use)
    assert status == 200
    assert "[DONE]" not in text
    assert '"code":"not_recorded"' in text
    assert len(world.rows(None, "open_requests")) == 1


def test_a_queue_that_grows_is_429_and_those_in_progress_are_recorded(tmp_path):
    world = World(tmp_path, **{"capture.queue_events": 8})
    go = threading.Event()

    async def use(client):
        await client.post(CHAT, json=ask())
        with world.log() as log:
            log.sync = lambda: SQLITE_OK if go.wait(30) else SQLITE_FULL
            first = [asyncio.create_task(client.post(CHAT, json=ask())) for _ in range(4)]
            await eventually(world.recorder.refusal)
            late = await client.post(CHAT, json=ask())
            go.set()
            return await asyncio.gather(*first), late

    first, late = world.run(use)
    assert (late.status_code, code_of(late)) == (429, "capture_queue_full")
    assert late.headers["retry-after"]
    assert [answer.status_code for answer in first] == [200] * 4
    assert len(world.rows()) == 5
    assert len(world.engine.bodies) == 5, "what is refused costs no answer"


def test_a_lake_that_is_away_ends_in_503_and_recovers_when_it_is_back(tmp_path):
    world = World(tmp_path, **{"capture.outbox_max_mb": 1})
    lake, keyring = ObjectStore(str(tmp_path / "lake")), Keyring(tmp_path)

    async def use(client):
        taken = 0
        while (answer := await client.post(CHAT, json=ask("x" * 50_000))).status_code == 200:
            taken += 1
            assert taken < 200
            await asyncio.sleep(0.02)
        probe = await client.get("/readyz")
        ship_once(world.folder, lake, world.config.capture, keyring)
        await eventually(lambda: not world.recorder.refusal())
        return taken, answer, probe, await client.post(CHAT, json=ask())

    taken, refused, probe, after = world.run(use)
    assert taken >= 5
    assert (refused.status_code, code_of(refused)) == (503, "capture_outbox_full")
    assert "shipper" in refused.json()["error"]["message"]
    assert (probe.status_code, code_of(probe)) == (503, "capture_outbox_full"), "traffic should go to another replica"
    assert after.status_code == 200


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {made.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize(("min_free_mb", "code"), [(0, "disk_error"), (1, "disk_full")])
def test_a_full_disk_is_503_and_what_was_acknowledged_is_on_it(small_disk, min_free_mb, code):
    world = World(small_disk, **{"capture.min_free_mb": min_free_mb})
    told, codes = [], set()

    async def use(client):
        for _ in range(400):
            answer = await client.post(CHAT, json=ask("x" * 20_000))
            if answer.status_code == 200:
                told.append(answer.json()["flywheel"]["inference_id"])
            else:
                assert answer.status_code == 503
                codes.add(code_of(answer))
            if f"capture_{code}" in codes:
                break
            await asyncio.sleep(0.01)

    world.run(use)
    assert codes <= {f"capture_{code}", "not_recorded"}
    assert f"capture_{code}" in codes
    kept = {row["inference_id"] for row in world.rows()}
    assert len(told) > 5
    assert set(told) <= kept


def test_a_replica_that_stops_finishes_its_streams_and_takes_nothing_new(tmp_path):
    world = World(tmp_path, delay_s=0.03)

    async def use(client):
        running = asyncio.create_task(client.post(CHAT, json=ask("a long answer", stream=True)))
        await eventually(lambda: world.rows(None, "open_requests"))
        stopping = asyncio.create_task(world.gateway.stop())
        await asyncio.sleep(0.02)
        late = await client.post(CHAT, json=ask())
        answer = await running
        await stopping
        return answer, late

    answer, late = world.run(use)
    assert answer.text.endswith("data: [DONE]\n\n")
    assert (late.status_code, code_of(late)) == (503, "shutting_down")
    assert late.headers["retry-after"]
    assert [row["finish_reason"] for row in world.rows()] == ["stop"]


def test_a_replica_that_stops_waits_no_longer_than_it_may(tmp_path):
    world = World(tmp_path, delay_s=0.5, **{"gateway.drain_timeout_s": 0.05})

    async def use(client):
        running = asyncio.create_task(client.post(CHAT, json=ask("never ends", stream=True)))
        await eventually(lambda: world.rows(None, "open_requests"))
        await world.gateway.stop()
        rows = world.rows(None, "open_requests")
        running.cancel()
        return rows

    assert len(world.run(use)) == 1, "the shipper makes an interrupted inference of it"


async def call(world, body, receive, send):
    scope = {"type": "http", "method": "POST", "path": CHAT, "headers": [], "query_string": b""}
    scope |= {"http_version": "1.1", "scheme": "http", "server": ("gateway", 80), "asgi": {"version": "3.0"}}
    inbox = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

    async def take():
        return inbox.pop() if inbox else await receive()

    await world.app(scope, take, send)


def test_a_client_that_stops_reading_is_let_go_and_recorded(tmp_path):
    world = World(tmp_path, delay_s=0.001, **{"gateway.write_timeout_s": 0.2})
    sent = []

    async def use(_):
        async def never():
            await asyncio.Event().wait()

        async def send(message):
            sent.append(message)
            if len(sent) == 4:  # the socket's buffer is full and nobody empties it
                await asyncio.Event().wait()

        await asyncio.wait_for(call(world, ask("a long answer", stream=True), never, send), 30)
        await eventually(world.rows)

    world.run(use)
    (row,) = world.rows()
    assert row["finish_reason"] == "client_disconnect"
    assert len(row["choices"][0]) < len("a long answer")
    assert world.gateway._active == 0


class Clock:
    """The part of an event loop that tells the time, moved by hand."""

    def __init__(self):
        self.now, self.due = 0.0, {}

    def time(self):
        return self.now

    def call_at(self, due, callback):
        handle = asyncio.Event()
        handle.cancel = lambda: self.due.pop(handle, None)
        self.due[handle] = (due, callback)
        return handle

    def pass_s(self, seconds):
        self.now += seconds
        for handle, (due, callback) in list(self.due.items()):
            if due <= self.now:
                del self.due[handle]
                callback()


@pytest.mark.parametrize(("pause", "lost"), [(9, False), (11, True)])
def test_only_a_client_that_takes_nothing_for_long_is_let_go(pause, lost):
    clock, taken = Clock(), []

    async def send(message):
        clock.pass_s(pause)  # how long the socket is full
        await asyncio.sleep(0)
        taken.append(message)

    async def run():
        patient = Patience(send, 10)
        patient._loop = clock
        async with patient:
            for number in range(5):
                await patient.send({"type": "part", "number": number})
        return patient.lost, len(taken), clock.due, asyncio.current_task().cancelling()

    assert asyncio.run(run()) == (lost, 0 if lost else 5, {}, 0)


def test_a_client_that_leaves_before_the_first_byte_is_recorded(tmp_path):
    world = World(tmp_path, delay_s=30)

    async def use(client):
        task = asyncio.create_task(client.post(CHAT, json=ask(stream=True)))
        await eventually(lambda: world.engine.bodies)
        task.cancel()
        await eventually(world.rows)

    world.run(use)
    assert [row["finish_reason"] for row in world.rows()] == ["client_disconnect"]
    assert world.rows(None, "open_requests") == []


def test_a_client_that_leaves_during_its_feedback_leaves_one_reaction(tmp_path):
    world = World(tmp_path)
    go = threading.Event()

    async def use(client):
        told = (await client.post(CHAT, json=ask())).json()["flywheel"]
        body = {"inference_id": told["inference_id"], "feedback_token": told["feedback_token"]}
        body |= {"kind": "thumbs", "value": 1, "idempotency_key": "k"}
        with world.log() as log:
            log.sync = lambda: SQLITE_OK if go.wait(30) else SQLITE_FULL
            task = asyncio.create_task(client.post("/v1/feedback", json=body))
            await eventually(lambda: world.recorder._events)
            task.cancel()
            await asyncio.sleep(0.02)
            go.set()
            await eventually(lambda: world.rows("feedback"))
        again = await client.post("/v1/feedback", json=body)
        return again.json()["feedback_id"]

    feedback_id = world.run(use)
    assert {row["feedback_id"] for row in world.rows("feedback")} == {feedback_id}
