"""The engagement loop end to end: lists and reactions over HTTP, lake, training, shadow, promotion, lists again."""

import asyncio
import random
from contextlib import asynccontextmanager

import engagement
import engagement_worlds as worlds
import httpx
import numpy as np

from flywheel.capture.ingest import ingest_all
from flywheel.capture.outbox import Outbox, outbox_folder
from flywheel.capture.ship import ship_once
from flywheel.config import FlywheelConfig, load
from flywheel.gateway.api import build_app
from flywheel.gateway.auth import ApiKeys
from flywheel.gateway.service import Gateway
from flywheel.lake.keys import Keyring
from flywheel.lake.tables import open_lake
from flywheel.records import Inference
from flywheel.rollout import routing
from flywheel.rollout.routing import Variant
from flywheel.testing import FakeEngine, LocalEngines
from flywheel.workflow.rankers import learn, promote, state

AGREED = {"x-flywheel-consent": "training,evaluation"}
LOOKS = (1.0, 0.6, 0.4)


class Product:
    """A gateway over a lake, and people who open what is flashy and hide it afterwards."""

    def __init__(self, home):
        self.config = load(FlywheelConfig, None, {
            "home": str(home), "gateway.ranking.ranker": "engagement", "gateway.ranking.temperature": 0.5,
            "gateway.ranking.epsilon": 0.3, "gateway.ranking.timeout_s": 10, "gateway.ranking.shadow_timeout_s": 10,
            "quality.ranker.min_lists": 100, "quality.ranker.min_shadow_lists": 150, "quality.ranker.min_effective": 30,
            "quality.ranker.weights": {"click": 0.1, "like": 1.0, "hide": -5.0}, "quality.ranker.item_ids": False,
        })  # fmt: skip
        self.lake, self.keyring = open_lake(self.config), Keyring(self.config.home_path())
        routing.publish(self.lake.store, routing.bootstrap("triage", Variant(version="v1", folder="/v1"), actor="test"))
        self.people, self.asked = random.Random(0), 0

    @asynccontextmanager
    async def client(self):
        gateway = Gateway(
            self.config, store=self.lake.store, engines=LocalEngines(FakeEngine("v1")),
            outbox=Outbox.open(outbox_folder(self.config), group_commit_ms=0), feedback_key=b"k", keys=ApiKeys([]),
        )  # fmt: skip
        await gateway.start()
        transport = httpx.ASGITransport(app=build_app(gateway), raise_app_exceptions=False)
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
                yield client
        finally:
            await gateway.stop()

    def sell(self, lists):
        """Lists and reactions, until they are in the lake."""

        async def run():
            async with self.client() as client:
                for _ in range(lists):
                    await self.visit(client)

        asyncio.run(run())
        ship_once(outbox_folder(self.config), self.lake.store, self.config.capture, self.keyring)
        assert not ingest_all(self.lake, self.config, self.keyring).quarantined
        return sorted(self.lake.records("inferences", Inference, flow="triage"), key=lambda row: row.ts)[-lists:]

    async def visit(self, client):
        rng, number = self.people, self.asked
        self.asked += 1
        kinds = [{"good": round(rng.gauss(0, 1), 3), "flash": round(rng.gauss(0, 1), 3)} for _ in range(5)]
        items = [{"id": f"i{number}-{at}", "features": kind, "score": kind["flash"]} for at, kind in enumerate(kinds)]
        body = {"items": items, "user": f"u{number % 40}", "k": 3, "idempotency_key": f"r{number}"}
        answer = (await client.post("/v1/rank", json=body, headers=AGREED)).json()
        marks = {key: answer["flywheel"][key] for key in ("inference_id", "feedback_token")}
        shown = [(item["id"], item["rank"]) for item in answer["items"]]
        seen = [{"id": item, "rank": rank, "shown_ms": 900} for item, rank in shown]
        told = [{**marks, "kind": "dwell", "value": 3_000, "items": seen}]
        for item, rank in shown:
            kind = kinds[int(item.rpartition("-")[2])]
            if rng.random() < LOOKS[rank - 1] * (0.8 if kind["flash"] > 0 else 0.3):
                liked = kind["good"] > kind["flash"]
                told += [
                    {**marks, "kind": "click", "items": [{"id": item, "rank": rank, "action": action}]}
                    for action in ("click", "like" if liked else "hide")
                ]
        reply = await client.post("/v1/feedback", json={"items": told})
        assert reply.status_code == 200, reply.text


def likeable(rows):
    """Mean of good minus flashy at the top."""
    tops = [next(item for item in row.ranking if item.rank == 1) for row in rows]
    return float(np.mean([item.features["good"] - item.features["flash"] for item in tops]))


def test_lists_become_better_by_what_people_did_with_them(tmp_path):
    product = Product(tmp_path)
    before = product.sell(250)
    assert {row.choosing.ranker for row in before} == {"given"}
    learn.train(product.config, actor="ann")
    beside = product.sell(350)
    assert {(row.choosing.ranker, row.shadow_scores[0].version) for row in beside} == {("given", "triage-r0001")}
    assert state.state(product.config)["shadows"] == [{"version": "triage-r0001", "lists": 350, "needed": 150}]
    done = promote.promote(product.config, actor="ann")
    assert done.promoted, [reason.text for reason in done.reasons]
    after = product.sell(60)
    assert {row.choosing.ranker_version for row in after} == {"triage-r0001"}
    assert likeable(before) < 0 < likeable(after)


def test_what_the_loop_learns_satisfies_more_than_what_clicks_teach():
    """One period of three worlds of ``benchmarks/engagement.py``; the benchmark has three turns, and promotions."""
    found = {"loop": [], "naive": []}
    for number in range(3):
        rng = np.random.default_rng([0, number])
        world, log = worlds.draw(rng), engagement.Log()
        engagement.serve(engagement.Asked.of(world, worlds.ask(world, 900, rng)), log, rng, live=None)
        fresh = engagement.Asked.of(world, worlds.ask(world, 500, rng))
        start = engagement.value_of(fresh, None, engagement.VALUES).satisfaction
        for arm, gains in found.items():
            ranker = engagement.train(log, engagement.ARMS[arm]).ranker
            gains.append(engagement.value_of(fresh, ranker, engagement.VALUES).satisfaction - start)
    assert np.mean(found["loop"]) > 0
    assert np.mean(found["loop"]) > np.mean(found["naive"])
