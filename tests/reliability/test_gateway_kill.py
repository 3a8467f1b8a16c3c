"""0 lost, 0 doubled: what several gateway replicas acknowledged is in the lake once, whoever was killed meanwhile."""

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from gateway_worker import VERSION, config_of

from flywheel.capture.ingest import ingest_all, read_totals
from flywheel.capture.outbox import outbox_folder
from flywheel.capture.ship import ship_once
from flywheel.lake.keys import Keyring
from flywheel.lake.tables import open_lake
from flywheel.records import Feedback, Inference
from flywheel.rollout import routing
from flywheel.rollout.routing import Variant

WORKER = Path(__file__).with_name("gateway_worker.py")
LONG = bool(os.environ.get("FLYWHEEL_LONG"))
EVENTS, KILLS = (20_000, 50) if LONG else (2_000, 5)
REPLICAS, CLIENTS = 3, 16
PATIENCE_S = 1_000 if LONG else 300


def free_ports(count):
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


@dataclass
class Said:
    """What clients were told."""

    answered: set[str] = field(default_factory=set)
    begun: set[str] = field(default_factory=set)
    rated: set[str] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)
    broken: int = 0

    @property
    def acknowledged(self):
        return len(self.answered) + len(self.rated)


class Fleet:
    """The processes of one home; who is killed comes back."""

    def __init__(self, home, chance):
        self.home, self.chance = home, chance
        self.ports = free_ports(REPLICAS)
        self.kills = Counter()
        self._running = {}
        for port in self.ports:
            self.start(("replica", str(port)))
        for name in ("shipper", "ingester"):
            self.start((name,))

    def start(self, who):
        self._running[who] = subprocess.Popen([sys.executable, WORKER, who[0], self.home, *who[1:]])

    def kill(self, who):
        process = self._running[who]
        assert process.poll() is None, f"{who} ended by itself"
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.kills[who[0]] += 1

    async def ready(self, count):
        """Wait until ``count`` replicas answer; their ports."""
        deadline = time.monotonic() + PATIENCE_S
        async with httpx.AsyncClient(timeout=5) as client:
            while time.monotonic() < deadline:
                up = [port for port in self.ports if await is_up(client, port)]
                if len(up) >= count:
                    return up
                await asyncio.sleep(0.1)
        raise AssertionError(f"no {count} replicas came up")

    async def kill_at_random(self, said):
        """Replicas at even steps of the traffic, shipper or ingester beside them."""
        for number in range(KILLS):
            due = EVENTS * (number + 0.5) / KILLS
            while said.acknowledged < due:
                await asyncio.sleep(0.01)
            port = self.chance.choice(await self.ready(2))
            beside = self.chance.choice(["shipper", "ingester"])
            await asyncio.sleep(self.chance.uniform(0, 0.1))
            for who in [("replica", str(port)), (beside,)]:
                self.kill(who)
            await asyncio.sleep(self.chance.uniform(0, 0.3))
            for who in [("replica", str(port)), (beside,)]:
                self.start(who)

    def stop(self, how):
        for who, process in self._running.items():
            process.send_signal(how if who[0] == "replica" else signal.SIGKILL)
        return {who: process.wait(timeout=60) for who, process in self._running.items()}


async def is_up(client, port):
    try:
        return (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
    except httpx.HTTPError:
        return False


class Client:
    """One caller: a request, whole or streamed, then a reaction that is sent until some replica takes it."""

    def __init__(self, number, ports, said):
        self.chance, self.ports, self.said = random.Random(number), ports, said

    async def run(self, done):
        async with httpx.AsyncClient(timeout=20) as self.http:
            while not done.is_set():
                try:
                    told = await (self.stream() if self.chance.random() < 0.4 else self.whole())
                    if told and self.chance.random() < 0.4:
                        await self.rate(*told)
                except httpx.HTTPError:
                    self.said.broken += 1
                    await asyncio.sleep(0.02)

    def url(self, path):
        return f"http://127.0.0.1:{self.chance.choice(self.ports)}{path}"

    def ask(self, **more):
        body = {"messages": [{"role": "user", "content": "mail ann@corp.io"}], "user": "ann", **more}
        return {"json": body, "headers": {"x-flywheel-consent": "training,evaluation"}}

    async def whole(self):
        answer = await self.http.post(self.url("/v1/chat/completions"), **self.ask())
        self.said.statuses[answer.status_code] += 1
        if answer.status_code != 200:
            return None
        told = answer.json()["flywheel"]
        self.said.answered.add(told["inference_id"])
        return told["inference_id"], told["feedback_token"]

    async def stream(self):
        async with self.http.stream("POST", self.url("/v1/chat/completions"), **self.ask(stream=True)) as answer:
            self.said.statuses[answer.status_code] += 1
            if answer.status_code != 200:
                return None
            row_id = answer.headers["x-flywheel-inference-id"]
            self.said.begun.add(row_id)
            async for line in answer.aiter_lines():
                if line == "data: [DONE]":
                    self.said.answered.add(row_id)
                    return row_id, answer.headers["x-flywheel-feedback-token"]
        return None

    async def rate(self, row_id, token):
        """The same reaction at replica after replica until two of them acknowledged it."""
        body = {"inference_id": row_id, "feedback_token": token, "kind": "thumbs", "value": 1, "idempotency_key": "k"}
        taken = 0
        for _ in range(200):
            try:
                answer = await self.http.post(self.url("/v1/feedback"), json=body)
            except httpx.HTTPError:
                await asyncio.sleep(0.02)
                continue
            self.said.statuses[answer.status_code] += 1
            if answer.status_code == 200:
                self.said.rated.add(answer.json()["feedback_id"])
                taken += 1
                if taken == 2:
                    return


async def traffic(fleet, said):
    """Load until enough is acknowledged and everybody was killed who should be."""
    await fleet.ready(REPLICAS)
    done = asyncio.Event()
    clients = [asyncio.create_task(Client(i, fleet.ports, said).run(done)) for i in range(CLIENTS)]
    try:
        async with asyncio.timeout(PATIENCE_S):
            await fleet.kill_at_random(said)
            while said.acknowledged < EVENTS:
                await asyncio.sleep(0.05)
    finally:
        done.set()
    await asyncio.gather(*clients)


@pytest.mark.slow
def test_what_replicas_acknowledged_is_in_the_lake_once(tmp_path, record_property):
    config = config_of(tmp_path)
    lake = open_lake(config)
    routing.publish(lake.store, routing.bootstrap("triage", Variant(version=VERSION, folder="/none"), actor="test"))
    Keyring(tmp_path).feedback_key()
    said, fleet = Said(), Fleet(tmp_path, random.Random(0))
    started = time.monotonic()
    try:
        asyncio.run(traffic(fleet, said))
        seconds = time.monotonic() - started
    finally:
        ends = fleet.stop(signal.SIGTERM)
    assert {code for who, code in ends.items() if who[0] == "replica"} <= {0, -signal.SIGTERM}, "no orderly end"

    before = len(lake.read("inferences", columns=["inference_id"]))
    ship_once(outbox_folder(config), lake.store, config.capture, Keyring(tmp_path))
    report = ingest_all(lake, config, Keyring(tmp_path))
    assert report.quarantined == {}
    assert [path.name for path in outbox_folder(config).iterdir()] == ["shipper.lock"]
    assert fleet.kills["replica"] == KILLS
    assert said.acknowledged >= EVENTS
    assert before > 0, "nothing was ingested under load: the test proved nothing about ingestion"

    rows = lake.records("inferences", Inference)
    times = Counter(row.inference_id for row in rows)
    reactions = Counter(row.feedback_id for row in lake.records("feedback", Feedback))
    doubled = {name: n for name, n in (times + reactions).items() if n > 1}
    lost = {
        "answers": said.answered - times.keys(),
        "begun streams": said.begun - times.keys(),
        "reactions": said.rated - reactions.keys(),
    }
    record_property("acknowledged", said.acknowledged)
    record_property("answers", len(said.answered))
    record_property("reactions", len(said.rated))
    record_property("kills", json.dumps(fleet.kills))
    record_property("broken_connections", said.broken)
    record_property("statuses", json.dumps(said.statuses))
    record_property("lost", sum(map(len, lost.values())))
    record_property("doubled", len(doubled))
    record_property("load_seconds", round(seconds, 1))
    assert doubled == {}
    assert {name: ids for name, ids in lost.items() if ids} == {}
    finished = {row.inference_id: row.finish_reason for row in rows}
    assert {finished[row_id] for row_id in said.answered} == {"stop"}
    assert set(finished.values()) <= {"stop", "interrupted", "client_disconnect"}
    assert {"interrupted"} & set(finished.values()), "no kill met a stream"
    totals = read_totals(lake, "triage")
    assert totals.events == sum(totals.rows.values()) + totals.duplicates
    assert set(said.statuses) <= {200, 503}
