"""Several gateways under load while the routing changes again and again: no request is dropped, no gateway goes back.

Each gateway is a replica with its own outbox over shared engines and one truth. Changes start, grow, shrink, stop and
promote canaries and roll back; canary engines come and go and fail meanwhile.
"""

import asyncio
import os
import random
import sqlite3
from collections import Counter
from contextlib import AsyncExitStack

import httpx

from flywheel.capture.outbox import Outbox
from flywheel.config import FlywheelConfig, load
from flywheel.errors import UsageError
from flywheel.gateway.api import build_app
from flywheel.gateway.auth import ApiKeys
from flywheel.gateway.problems import unavailable
from flywheel.gateway.service import Gateway
from flywheel.records import Inference
from flywheel.rollout import canaries, routing
from flywheel.rollout.routing import Canary, Shadow, Variant
from flywheel.rollout.split import drawn, split_checks
from flywheel.testing import FakeEngine, LocalEngines, MemoryStore

WHO = {"actor": "t", "reason": "r"}
REPLICAS, CHANGES, CLIENTS = 3, 500 if os.environ.get("FLYWHEEL_LONG") else 50, 4
VERSIONS = ["v1", "v2", "v3", "v4"]
SHARES = [0.05, 0.25, 0.5]


class Unsteady(LocalEngines):
    """Engines of models that were never live fail one request in five; whoever is or was live answers."""

    def __init__(self, states, rng):
        super().__init__(*(FakeEngine(version) for version in VERSIONS))
        self._states, self._rng = states, rng

    async def chat(self, version, body, timeout_s):
        self._stumble(version)
        return await super().chat(version, body, timeout_s)

    async def stream(self, version, body, timeout_s):
        self._stumble(version)
        async for block in super().stream(version, body, timeout_s):
            yield block

    def _stumble(self, version):
        if version not in were_live(self._states) and self._rng.random() < 0.2:
            raise unavailable("gone", "engine_unavailable")


def were_live(states):
    return {state.live.version for state in states.values()}


def change(state, rng):
    """Some possible next state."""
    version, share = rng.choice(VERSIONS), rng.choice(SHARES)
    steps = [
        lambda: canaries.with_canary(state, Canary(version=version, folder="/x", share=share), **WHO),
        lambda: canaries.with_canary(state, Canary(version=version, folder="/x", share=share), **WHO),
        lambda: canaries.without_canary(state, version, **WHO),
        lambda: routing.with_shadow(state, Shadow(version=version, folder="/x"), **WHO),
        lambda: routing.promoted(state, version, **WHO),
        lambda: routing.rolled_back(state, **WHO),
    ]
    while True:
        try:
            return rng.choice(steps)()
        except UsageError:
            version, share = rng.choice(VERSIONS), rng.choice(SHARES)


class Replica:
    def __init__(self, number, tmp_path, store, engines):
        self.folder = tmp_path / f"outbox-{number}"
        config = load(FlywheelConfig, None, {"home": str(tmp_path / str(number)), "gateway.routing_poll_s": 0.005})
        self.gateway = Gateway(
            config, store=store, engines=engines, outbox=Outbox.open(self.folder, group_commit_ms=0),
            feedback_key=b"k", keys=ApiKeys([]), assignment_key=b"one secret for all",
        )  # fmt: skip

    def rows(self):
        with sqlite3.connect(next(self.folder.glob("*.db"))) as db:
            found = db.execute("select body from events where kind = 'inference'").fetchall()
        rows = [Inference.model_validate_json(body) for (body,) in found]
        return sorted(rows, key=lambda row: row.inference_id)  # UUIDv7: the order in which they were asked


async def load_on(replica, client, rng, done, answers):
    while not done.is_set():
        stream = rng.random() < 0.3
        body = {"model": "triage", "messages": [{"role": "user", "content": "hi"}], "user": f"u{rng.randrange(300)}"}
        answer = await client.post("/v1/chat/completions", json={**body, "stream": stream})
        whole = answer.status_code == 200 and (answer.text.endswith("[DONE]\n\n") if stream else "HI" in answer.text)
        answers[replica].append(whole or answer.text)


async def change_often(store, engines, states, done, answers, rng):
    state = states[1]
    while state.n < CHANGES + 1:
        state = change(state, rng)
        states[state.n] = state
        routing.publish(store, state)
        now = sum(map(len, answers.values()))
        away = rng.choice(VERSIONS) if rng.random() < 0.3 else None
        if away and away not in were_live(states):
            engines.engines.pop(away, None)
        while sum(map(len, answers.values())) < now + 6:  # every state meets traffic
            await asyncio.sleep(0.002)
        for version in VERSIONS:
            engines.engines.setdefault(version, FakeEngine(version))
    done.set()


def test_no_request_is_dropped_and_no_gateway_goes_back(tmp_path):
    rng, store = random.Random(0), MemoryStore()
    states = {1: routing.bootstrap("triage", Variant(version="v1", folder="/v1"), actor="t")}
    routing.publish(store, states[1])
    engines = Unsteady(states, rng)
    replicas = [Replica(number, tmp_path, store, engines) for number in range(REPLICAS)]
    answers = {number: [] for number in range(REPLICAS)}

    async def run():
        done = asyncio.Event()
        async with AsyncExitStack() as stack:
            work = [change_often(store, engines, states, done, answers, rng)]
            for number, replica in enumerate(replicas):
                await replica.gateway.start()
                stack.push_async_callback(replica.gateway.stop)
                transport = httpx.ASGITransport(app=build_app(replica.gateway))
                client = await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://g"))
                work += [load_on(number, client, rng, done, answers) for _ in range(CLIENTS)]
            await asyncio.gather(*work)

    asyncio.run(run())
    assert {answer for given in answers.values() for answer in given} == {True}
    rows = [replica.rows() for replica in replicas]
    assert [len(part) for part in rows] == [len(answers[number]) for number in answers]
    for part in rows:
        policies = [row.policy_version for row in part]
        assert policies == sorted(policies)
        assert policies[-1] > CHANGES / 2, "it followed the truth"
    every = [row for part in rows for row in part]
    kinds = Counter(row.assignment for row in every)
    assert min(kinds["random"], kinds["only"], kinds["fallback"]) > 0, kinds
    for row in every:
        state = states[row.policy_version]
        serving = {state.live.version, *(canary.version for canary in state.canaries)}
        assert {row.model_version, *row.eligible_variants} <= serving
    check_sticky(every, states)


def check_sticky(rows, states):
    """Within one split a key has one arm, at every replica; nobody is split otherwise than asked."""
    by_epoch = {}
    for row in rows:
        draw = drawn(row.model_dump())
        if draw is not None:
            by_epoch.setdefault(states[row.policy_version].epoch, []).append(draw)
    assert by_epoch
    for draws in by_epoch.values():
        assert not [check for check in split_checks(draws, states) if check.alarm]
