"""/v1/rank over a real outbox: the list that was shown, with true chances, is in it before it is acknowledged."""

import asyncio
import json
import math
import sqlite3
from collections import Counter
from contextlib import asynccontextmanager

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from flywheel.capture.outbox import Outbox, outbox_folder
from flywheel.config import FlywheelConfig, RankingConfig, load
from flywheel.errors import CaptureError
from flywheel.gateway.api import build_app
from flywheel.gateway.auth import ApiKeys
from flywheel.gateway.choosing.found import find_ranker
from flywheel.gateway.choosing.rankers import Opinion, RankerProblem, Scored
from flywheel.gateway.problems import ApiProblem
from flywheel.gateway.rank import draw, listed
from flywheel.gateway.rank_request import read_rank
from flywheel.gateway.service import Gateway
from flywheel.records import Inference
from flywheel.rollout import routing
from flywheel.rollout.routing import Variant
from flywheel.testing import FakeEngine, LocalEngines, MemoryStore

CONSENT = {"x-flywheel-consent": "training"}
ITEMS = [{"id": "a", "score": 1.0}, {"id": "b", "score": 3.0}, {"id": "c", "score": 2.0}]


class ByLength:
    """Prefers long texts."""

    name = "reward"

    def __init__(self, error=None):
        self.error, self.asked = error, []

    async def score(self, messages, candidates):
        self.asked.append([message.content for message in messages])
        if self.error is not None:
            raise self.error
        return Scored([float(len(candidate.text)) for candidate in candidates], "length-1")


class World:
    def __init__(self, tmp_path, ranker=None, routed=True, **settings):
        overrides = {f"gateway.ranking.{key}": value for key, value in settings.items()}
        self.config = load(FlywheelConfig, None, {"home": str(tmp_path), **overrides})
        store = MemoryStore()
        if routed:
            routing.publish(store, routing.bootstrap("triage", Variant(version="v1", folder="/v1"), actor="test"))
        self.outbox = Outbox.open(outbox_folder(self.config), group_commit_ms=0)
        self.gateway = Gateway(
            self.config,
            store=store,
            engines=LocalEngines(FakeEngine("v1")),
            outbox=self.outbox,
            feedback_key=b"k",
            keys=ApiKeys([]),
            ranker=(lambda _name, _config: ranker) if ranker else find_ranker,
        )

    @asynccontextmanager
    async def client(self):
        await self.gateway.start()
        transport = httpx.ASGITransport(app=build_app(self.gateway), raise_app_exceptions=False)
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
                yield client
        finally:
            await self.gateway.stop()

    def rows(self, kind="inference"):
        path = next(outbox_folder(self.config).glob("*.db"))
        with sqlite3.connect(path) as db:
            found = db.execute("select body from events where kind = ? order by seq", [kind]).fetchall()
        return [json.loads(body) for (body,) in found]

    def ask(self, *bodies, headers=CONSENT):
        async def run():
            async with self.client() as client:
                return [await client.post("/v1/rank", json=body, headers=headers) for body in bodies]

        return asyncio.run(run())


def test_a_list_is_recorded_as_it_was_shown(tmp_path):
    world = World(tmp_path, policy="epsilon_greedy", epsilon=0)
    items = [{**ITEMS[0], "text": "apples", "features": {"price": 2.5, "new": True, "brand": "x"}}, *ITEMS[1:]]
    body = {"items": items, "query": "fruit", "user": "ann", "k": 2, "ranker_version": "shop-3"}
    (answer,) = world.ask(body, headers={**CONSENT, "x-flywheel-session": "s1"})
    said = answer.json()
    assert [(item["id"], item["rank"], item["score"]) for item in said["items"]] == [("b", 1, 3.0), ("c", 2, 2.0)]
    assert said["flywheel"]["inference_id"] == answer.headers["x-flywheel-inference-id"]
    assert said["flywheel"]["feedback_token"] == answer.headers["x-flywheel-feedback-token"]
    row = Inference.model_validate(world.rows()[0])
    assert (row.subject, row.session_id, row.consent, row.traffic_kind) == ("ann", "s1", ["training"], "live")
    assert (row.model_version, row.policy_version, row.propensity) == ("v1", 1, 1.0)
    assert [message.content for message in row.messages] == ["fruit"]
    assert (row.choices, row.choice_propensity, row.list_log_propensity) == ([], None, 0.0)
    assert [item.id for item in row.ranking] == ["a", "b", "c"], "in the order in which they were sent"
    assert [item.rank for item in row.ranking] == [None, 1, 2]
    assert [item.position_propensity for item in row.ranking] == [None, 1.0, 1.0]
    assert row.ranking[0].features == {"price": 2.5, "new": True, "brand": "x"}
    assert row.choosing is not None
    assert (row.choosing.ranker, row.choosing.ranker_version, row.choosing.policy) == (
        "given", "shop-3", "epsilon_greedy",
    )  # fmt: skip


def test_logged_chances_of_lists_are_how_often_they_are_shown(tmp_path):
    world = World(tmp_path, policy="softmax", temperature=1.5, epsilon=0.1)
    answers = world.ask(*[{"items": ITEMS, "k": 2}] * 250)
    rows = world.rows()
    shown = [tuple(item["id"] for item in answer.json()["items"]) for answer in answers]
    by_rank = [sorted((item for item in row["ranking"] if item["rank"]), key=lambda item: item["rank"]) for row in rows]
    assert [tuple(item["id"] for item in items) for items in by_rank] == shown
    assert all(
        row["list_log_propensity"] == items[-1]["prefix_log_propensity"]
        for row, items in zip(rows, by_rank, strict=True)
    )
    logged = {order: math.exp(row["list_log_propensity"]) for order, row in zip(shown, rows, strict=True)}
    assert math.fsum(logged.values()) == pytest.approx(1), "all six lists were shown"
    seen = Counter(shown)
    assert chisquare([seen[order] for order in logged], [chance * 250 for chance in logged.values()]).pvalue > 1e-6


def test_a_retry_gets_the_same_list_and_says_that_it_is_one(tmp_path):
    items = [{"id": f"i{n}", "score": 0.0} for n in range(30)]
    key = {"items": items, "user": "ann", "idempotency_key": "r-1"}
    other = {**key, "idempotency_key": "r-2"}
    bob = {**key, "user": "bob"}
    world = World(tmp_path, policy="softmax")
    answers = world.ask(key, key, other, bob, {"items": items}, {"items": items})
    lists = [tuple(item["id"] for item in answer.json()["items"]) for answer in answers]
    assert lists[0] == lists[1]
    assert len(set(lists)) == 5
    elsewhere = World(tmp_path / "another replica", policy="softmax").ask(key)
    assert tuple(item["id"] for item in elsewhere[0].json()["items"]) == lists[0]
    keys = [row["choosing"]["request_key_hash"] for row in world.rows()]
    assert keys[0] == keys[1] != keys[2] != keys[3]
    assert keys[4:] == [None, None]


@pytest.mark.parametrize(
    ("ranker", "items", "why"),
    [
        (ByLength(error=RankerProblem("unavailable")), ITEMS, "unavailable"),
        (ByLength(error=KeyError("bug")), ITEMS, "failed"),
        (None, [{"id": "a"}, {"id": "b", "score": 1.0}], "no_scores"),
    ],
)
def test_without_scores_the_list_stays_as_it_was_sent_for_certain(tmp_path, ranker, items, why):
    world = World(tmp_path, ranker, policy="softmax", epsilon=0.5)
    (answer,) = world.ask({"items": items})
    assert [item["id"] for item in answer.json()["items"]] == [item["id"] for item in items]
    row = Inference.model_validate(world.rows()[0])
    assert row.choosing is not None
    assert (row.choosing.policy, row.choosing.fallback, row.choosing.epsilon) == ("given", why, 0.0)
    assert row.list_log_propensity == 0.0
    assert {item.position_propensity for item in row.ranking} == {1.0}


def test_a_reward_model_reads_the_context_and_the_items_texts(tmp_path):
    ranker = ByLength()
    world = World(tmp_path, ranker, policy="epsilon_greedy", epsilon=0)
    messages = [{"role": "system", "content": "shop"}, {"role": "user", "content": "shoes"}]
    items = [{"id": "x", "text": "red"}, {"id": "y", "text": "a longer one"}]
    with_context, without = world.ask({"items": items, "messages": messages}, {"items": items})
    assert [item["id"] for item in with_context.json()["items"]] == ["y", "x"]
    assert without.status_code == 200
    assert ranker.asked == [["shop", "shoes"], []]
    assert with_context.json()["policy"]["ranker_version"] == "length-1"


def test_a_request_may_name_another_policy(tmp_path):
    world = World(tmp_path)
    world.ask(
        {"items": ITEMS, "policy": {"name": "uniform"}}, {"items": ITEMS, "policy": {"temperature": 0.5, "epsilon": 0}}
    )
    first, second = (row["choosing"] for row in world.rows())
    assert (first["policy"], first["epsilon"]) == ("uniform", 1.0)
    assert (second["policy"], second["temperature"], second["epsilon"]) == ("softmax", 0.5, 0.0)
    assert world.rows()[0]["list_log_propensity"] == pytest.approx(-math.log(6))


def test_reactions_join_by_the_token_of_the_list(tmp_path):
    world = World(tmp_path)

    async def run():
        async with world.client() as client:
            shown = (await client.post("/v1/rank", json={"items": ITEMS, "user": "ann"})).json()
            marks = shown["flywheel"]
            seen = {"id": shown["items"][0]["id"], "rank": 1, "shown_ms": 900, "action": "open"}
            body = {
                "inference_id": marks["inference_id"],
                "feedback_token": marks["feedback_token"],
                "kind": "click",
                "items": [seen],
            }
            return await client.post("/v1/feedback", json=body), shown

    answer, shown = asyncio.run(run())
    assert answer.status_code == 200
    (row,) = world.rows("feedback")
    assert row["inference_id"] == shown["flywheel"]["inference_id"]
    assert row["items"] == [{"id": shown["items"][0]["id"], "rank": 1, "shown_ms": 900.0, "action": "open"}]


def test_what_cannot_be_recorded_is_not_acknowledged(tmp_path):
    world = World(tmp_path)

    async def broken(*_):
        raise CaptureError("the disk is full; free some space")

    async def run():
        async with world.client() as client:
            world.outbox.append = broken
            return await client.post("/v1/rank", json={"items": ITEMS})

    answer = asyncio.run(run())
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_recorded")


def test_without_a_live_model_it_is_503(tmp_path):
    (answer,) = World(tmp_path, routed=False).ask({"items": ITEMS})
    assert answer.status_code == 503


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"items": []},
        {"items": [{"id": "a"}, {"id": "a"}]},
        {"items": [{"id": "ann@example.com"}]},
        {"items": [{"id": "a b"}]},
        {"items": [{"id": "a", "text": "\ud800"}]},
        {"items": ITEMS, "ranker_version": "\ud800"},
        {"items": ITEMS, "messages": [1]},
        {"items": [{"id": "a", "features": {"f": [1]}}]},
        {"items": [{"id": "a", "socre": 1}]},
        {"items": [{"id": f"i{n}"} for n in range(6)]},
        {"items": ITEMS, "query": "q", "messages": [{"role": "user", "content": "m"}]},
        {"items": ITEMS, "messages": [{"role": "nobody", "content": "m"}]},
        {"items": ITEMS, "k": 0},
        {"items": ITEMS, "policy": {"temperature": 0}},
        {"items": ITEMS, "policy": {"epsilon": 2}},
        {"items": ITEMS, "user": 7},
    ],
)
def test_bad_requests_are_named_and_leave_no_row(tmp_path, body):
    world = World(tmp_path, max_items=5)

    async def run():
        async with world.client() as client:
            raw = json.dumps(body).encode()
            return await client.post("/v1/rank", content=raw)

    answer = asyncio.run(run())
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert world.rows() == []


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", "-1e301"])
def test_scores_that_are_no_numbers_are_refused(tmp_path, value):
    world = World(tmp_path)

    async def run():
        async with world.client() as client:
            return await client.post("/v1/rank", content=b'{"items": [{"id": "a", "score": %s}]}' % value.encode())

    assert asyncio.run(run()).status_code == 400


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "score", "role"]) | st.text(), inner)
    ),
    max_leaves=8,
)
item = st.fixed_dictionaries(
    {"id": st.sampled_from("abcdef") | values},
    optional={"text": values, "score": values, "features": st.dictionaries(st.text(max_size=3), values)},
)
bodies = st.fixed_dictionaries(
    {"items": st.lists(item, max_size=4) | values},
    optional=dict.fromkeys(["messages", "query", "user", "model", "k", "policy", "idempotency_key"], values),
)


@settings(max_examples=80, deadline=None)
@given(bodies)
def test_whatever_is_sent_is_understood_or_refused_and_never_fails(body):
    try:
        wanted = read_rank(body, {}, tenant="t", settings=RankingConfig())
    except ApiProblem as problem:
        if problem.status != 400:
            raise
        return
    drawn = draw(wanted, Opinion([0.0] * len(wanted.items), None, None))
    row = [one.model_dump_json() for one in listed(wanted.items, [0.0] * len(wanted.items), drawn)]
    assert len(row) == len(wanted.items) >= len(drawn.order) == wanted.places
