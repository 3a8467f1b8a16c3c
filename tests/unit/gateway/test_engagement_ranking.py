"""Lists by the promoted ranker: served, reloaded, shadowed, and done without when it is late or gone."""

import asyncio
import json
import sqlite3
import time
from contextlib import asynccontextmanager

import httpx
import numpy as np
import pytest

from flywheel.capture.outbox import Outbox, outbox_folder
from flywheel.config import FlywheelConfig, load
from flywheel.gateway.api import build_app
from flywheel.gateway.auth import ApiKeys
from flywheel.gateway.service import Gateway
from flywheel.inference.engagement_ranker import WEIGHTS, EngagementRanker, RankerSpec, content_hash
from flywheel.inference.item_features import Item, learn_features
from flywheel.lake.ranker_files import keep_files
from flywheel.records import Inference
from flywheel.rollout import ranker_routing as truth
from flywheel.rollout import routing
from flywheel.rollout.ranker_routing import RankerVariant
from flywheel.rollout.routing import Variant
from flywheel.testing import FakeEngine, LocalEngines, MemoryStore

ITEMS = [
    {"id": name, "score": score, "features": {"x": x}} for name, score, x in (("a", 3, 0), ("b", 2, 1), ("c", 1, 2))
]
WHY = {"actor": "test", "reason": "test"}
AGREED = {"x-flywheel-consent": "training,evaluation"}


def by_x(sign):
    """A ranker that likes a large ``x``, or a small one."""
    features = learn_features([Item(str(at), "", {"x": float(at)}) for at in range(3)], buckets=64, ids=True)
    dense = np.zeros((features.width + 1, 1))
    dense[2] = sign
    spec = RankerSpec(features=features, actions=["click"], values=[1.0], spread=0.1)
    return EngagementRanker(spec, dense, np.zeros((64, 1)))


class World:
    def __init__(self, home, store=None, **settings):
        overrides = {f"gateway.ranking.{key}": value for key, value in settings.items()}
        config = {"home": str(home), "gateway.ranking.ranker": "engagement", "gateway.routing_poll_s": 0.02}
        greedy = {"gateway.ranking.policy": "epsilon_greedy", "gateway.ranking.epsilon": 0}
        self.config = load(FlywheelConfig, None, {**config, **greedy, **overrides})
        self.store = store or MemoryStore()
        if store is None:
            routing.publish(self.store, routing.bootstrap("triage", Variant(version="v1", folder="/v1"), actor="t"))
        self.gateway = Gateway(
            self.config, store=self.store, engines=LocalEngines(FakeEngine("v1")),
            outbox=Outbox.open(outbox_folder(self.config), group_commit_ms=0), feedback_key=b"k", keys=ApiKeys([]),
        )  # fmt: skip

    def now(self):
        return truth.current(self.store, "triage")

    def shadow(self, ranker, version):
        files = ranker.files()
        keep_files(self.store, content_hash(files), files)
        variant = RankerVariant(version=version, content=content_hash(files))
        truth.publish(self.store, truth.with_shadow(self.now(), "triage", variant, **WHY))

    def promote(self, ranker, version):
        self.shadow(ranker, version)
        truth.publish(self.store, truth.promoted(self.now(), "triage", version, reasons=[], **WHY))

    @asynccontextmanager
    async def client(self):
        await self.gateway.start()
        transport = httpx.ASGITransport(app=build_app(self.gateway), raise_app_exceptions=False)
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
                yield client
        finally:
            await self.gateway.stop()

    def serve(self, use):
        async def run():
            async with self.client() as client:
                return await use(client)

        return asyncio.run(run())

    def ask(self, headers=AGREED):
        async def use(client):
            answer = (await client.post("/v1/rank", json={"items": ITEMS}, headers=headers)).json()
            return [item["id"] for item in answer["items"]]

        return self.serve(use)

    def row(self):
        """The newest of all the outboxes: each gateway has one of its own."""
        bodies = []
        for path in outbox_folder(self.config).glob("*.db"):
            with sqlite3.connect(path) as db:
                bodies += db.execute("select body from events where kind = 'inference'").fetchall()
        return max((Inference.model_validate(json.loads(body)) for (body,) in bodies), key=lambda row: row.ts)


def test_until_one_is_promoted_the_products_scores_count(tmp_path):
    world = World(tmp_path)
    world.shadow(by_x(1), "triage-r0001")
    assert world.ask() == ["a", "b", "c"]
    row = world.row()
    assert (row.choosing.ranker, row.choosing.fallback) == ("given", None)


def test_the_promoted_ranker_orders_lists_and_the_row_says_which(tmp_path):
    world = World(tmp_path)
    world.promote(by_x(1), "triage-r0001")
    assert world.ask() == ["c", "b", "a"]
    row = world.row()
    assert (row.choosing.ranker, row.choosing.ranker_version) == ("engagement", "triage-r0001")
    items = [Item(item["id"], "", item["features"]) for item in ITEMS]
    assert [item.score for item in row.ranking] == pytest.approx(by_x(1).scores(items), rel=1e-4)


def test_a_new_version_takes_over_while_the_gateway_runs_and_a_rollback_too(tmp_path):
    world = World(tmp_path)

    async def use(client):
        async def order():
            answer = (await client.post("/v1/rank", json={"items": ITEMS})).json()
            return "".join(item["id"] for item in answer["items"])

        async def becomes(wanted):
            async with asyncio.timeout(10):
                while await order() != wanted:
                    await asyncio.sleep(0.02)

        assert await order() == "abc"
        world.promote(by_x(1), "triage-r0001")
        await becomes("cba")
        world.promote(by_x(-1), "triage-r0002")
        await becomes("abc")
        truth.publish(world.store, truth.rolled_back(world.now(), "triage", **WHY))
        await becomes("cba")

    world.serve(use)
    assert world.row().choosing.ranker_version == "triage-r0001"


def test_the_shadow_is_recorded_beside_and_changes_no_list(tmp_path):
    world = World(tmp_path)
    world.promote(by_x(1), "triage-r0001")
    world.shadow(by_x(-1), "triage-r0002")
    assert world.ask() == ["c", "b", "a"]
    (beside,) = world.row().shadow_scores
    assert (beside.version, beside.error) == ("triage-r0002", None)
    assert beside.scores[0] > beside.scores[1] > beside.scores[2]
    world.gateway = World(tmp_path, world.store).gateway
    assert world.ask({"x-flywheel-consent": "training"}) == ["c", "b", "a"]
    assert world.row().shadow_scores == [], "without consent to evaluation nothing is mirrored"


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (lambda _: time.sleep(0.3), "timeout"),
        (lambda _: 1 / 0, "ZeroDivisionError"),
        (lambda _: [float("nan")] * 3, "not_finite"),
    ],
)
def test_a_shadow_that_is_slow_or_broken_costs_nobody_a_list(tmp_path, bad, error):
    world = World(tmp_path, shadow_timeout_s=0.05 if error == "timeout" else 10)
    world.promote(by_x(1), "triage-r0001")
    world.shadow(by_x(-1), "triage-r0002")

    async def use(client):
        object.__setattr__(world.gateway._rankers._loaded["triage-r0002"], "scores", bad)
        answer = (await client.post("/v1/rank", json={"items": ITEMS}, headers=AGREED)).json()
        return [item["id"] for item in answer["items"]]

    assert world.serve(use) == ["c", "b", "a"]
    assert [(one.error, one.scores) for one in world.row().shadow_scores] == [(error, [])]


@pytest.mark.parametrize(
    ("bad", "timeout_s", "reason"), [(lambda _: time.sleep(0.3), 0.05, "timeout"), (lambda _: 1 / 0, 10, "failed")]
)
def test_a_live_ranker_that_is_slow_or_broken_leaves_the_list_as_it_was_sent(tmp_path, bad, timeout_s, reason):
    world = World(tmp_path, timeout_s=timeout_s, epsilon=0.5)
    world.promote(by_x(1), "triage-r0001")

    async def use(client):
        object.__setattr__(world.gateway._rankers._loaded["triage-r0001"], "scores", bad)
        return (await client.post("/v1/rank", json={"items": ITEMS})).json()

    world.serve(use)
    row = world.row()
    assert [item.rank for item in row.ranking] == [1, 2, 3]
    assert (row.choosing.policy, row.choosing.ranker, row.choosing.fallback) == ("given", "engagement", reason)
    assert row.list_log_propensity == 0.0


def test_files_that_are_not_those_that_were_registered_do_not_serve(tmp_path):
    world = World(tmp_path)
    world.promote(by_x(1), "triage-r0001")
    for key in list(world.store.objects):
        if key.endswith(WEIGHTS):
            world.store.objects[key] += b"x"
    assert world.ask() == ["a", "b", "c"], "as if it had never been promoted"
    world = World(tmp_path / "other")
    world.promote(by_x(1), "triage-r0001")
    world.store.objects = {key: data for key, data in world.store.objects.items() if not key.endswith(WEIGHTS)}
    assert world.ask() == ["a", "b", "c"]


def test_a_shadow_that_cannot_be_loaded_keeps_nobody_from_the_live_ranker(tmp_path):
    world = World(tmp_path)
    world.promote(by_x(1), "triage-r0001")
    lost = RankerVariant(version="triage-r0002", content="nowhere")
    truth.publish(world.store, truth.with_shadow(world.now(), "triage", lost, **WHY))
    assert world.ask() == ["c", "b", "a"]
    assert [one.error for one in world.row().shadow_scores] == ["not_loaded"]


def test_a_replica_that_starts_while_the_lake_is_away_serves_its_last_ranker(tmp_path):
    world = World(tmp_path)
    world.promote(by_x(1), "triage-r0001")
    assert world.ask() == ["c", "b", "a"]
    again = World(tmp_path, world.store)
    world.store.broken = True
    assert again.ask() == ["c", "b", "a"]
    assert again.row().choosing.ranker_version == "triage-r0001"


def test_other_rankers_are_not_polled(tmp_path):
    world = World(tmp_path, ranker="given")
    world.promote(by_x(1), "triage-r0001")
    assert world.ask() == ["a", "b", "c"]
    assert world.row().shadow_scores == []
