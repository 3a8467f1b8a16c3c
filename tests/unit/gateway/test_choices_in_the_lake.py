"""From the request to the lake: what was chosen, with what chance, arrives as it was served, and can be evaluated.

A simulated product with known click probabilities logs through the gateway; inverse propensity scoring (Horvitz and
Thompson 1952) of another policy on what is in the lake must find that policy's true value.
"""

import asyncio
import itertools
import math
import random
import statistics

import httpx
import pytest

from flywheel.capture.ingest import ingest_all
from flywheel.capture.outbox import Outbox, outbox_folder
from flywheel.capture.ship import ship_once
from flywheel.config import FlywheelConfig, load
from flywheel.gateway.api import build_app
from flywheel.gateway.auth import ApiKeys
from flywheel.gateway.choosing.rankers import GivenScores, Scored
from flywheel.gateway.service import Gateway
from flywheel.lake.keys import Keyring
from flywheel.lake.tables import open_lake
from flywheel.quality.candidates import build_candidates
from flywheel.quality.rows import Exclusions
from flywheel.records import Feedback, Inference
from flywheel.rollout import routing
from flywheel.rollout.routing import Variant
from flywheel.statistics.plackett_luce import prefix_log_propensities
from flywheel.statistics.policies import GREEDY, Policy, probabilities
from flywheel.testing import FakeEngine, LocalEngines, MemoryStore

CONSENT = {"x-flywheel-consent": "training"}
QUALITY = {"a": 0.15, "b": 0.7, "c": 0.4}
SEEN = [1.0, 0.6, 0.35]
"""How often a place is looked at: a click needs both a look and a liking."""
SCORES = {"a": 0.0, "b": 1.0, "c": 0.5}


class Numbered(FakeEngine):
    """Answers that can be told apart."""

    async def chat(self, body):
        answer = await super().chat(body)
        for choice in answer["choices"]:
            choice["message"]["content"] = f"answer {choice['index']}"
        return answer


class Places:
    """Scores answers by their number."""

    name = "reward"

    async def score(self, messages, candidates):
        return Scored([0.8 * float(one.text[-1]) for one in candidates], "places-1")


class Product:
    """A gateway, a lake, and clients that behave as they are told."""

    def __init__(self, home, **settings):
        self.config = load(FlywheelConfig, None, {"home": str(home), **settings})
        self.lake, self.keyring = open_lake(self.config), Keyring(self.config.home_path())
        store = MemoryStore()
        routing.publish(store, routing.bootstrap("triage", Variant(version="v1", folder="/v1"), actor="test"))
        self.gateway = Gateway(
            self.config,
            store=store,
            engines=LocalEngines(Numbered("v1")),
            outbox=Outbox.open(outbox_folder(self.config), group_commit_ms=0),
            feedback_key=b"k",
            keys=ApiKeys([]),
            ranker=lambda name, _config: GivenScores() if name == "given" else Places(),
        )

    def serve(self, use):
        async def run():
            await self.gateway.start()
            transport = httpx.ASGITransport(app=build_app(self.gateway), raise_app_exceptions=False)
            try:
                async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
                    return await use(client)
            finally:
                await self.gateway.stop()

        return asyncio.run(run())

    def ingest(self):
        ship_once(outbox_folder(self.config), self.lake.store, self.config.capture, self.keyring)
        report = ingest_all(self.lake, self.config, self.keyring)
        assert not report.quarantined
        inferences = {row.inference_id: row for row in self.lake.records("inferences", Inference)}
        return inferences, self.lake.records("feedback", Feedback)


async def react(client, answer, **what):
    marks = answer["flywheel"]
    body = {"inference_id": marks["inference_id"], "feedback_token": marks["feedback_token"], **what}
    assert (await client.post("/v1/feedback", json=body)).status_code == 200


def estimate(values):
    return statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))


def test_another_list_policy_is_evaluated_from_what_the_lake_holds(tmp_path):
    product = Product(tmp_path, **{"gateway.ranking.temperature": 2.0, "gateway.ranking.epsilon": 0.1})
    users, n = random.Random(5), 400
    items = [{"id": name, "text": f"{name}, ask bob@acme.org", "score": SCORES[name]} for name in SCORES]

    async def use(client):
        shown = {}
        for number in range(n):
            body = {"items": items, "query": "fruit", "user": f"u{number}", "idempotency_key": f"r{number}"}
            answer = (await client.post("/v1/rank", json=body, headers=CONSENT)).json()
            shown[answer["flywheel"]["inference_id"]] = [item["id"] for item in answer["items"]]
            clicked = [
                {"id": item["id"], "rank": item["rank"], "action": "open"}
                for item, look in zip(answer["items"], SEEN, strict=True)
                if users.random() < look * QUALITY[item["id"]]
            ]
            if clicked:
                await react(client, answer, kind="click", items=clicked)
        return shown

    shown = product.serve(use)
    lists, clicks = product.ingest()
    names = list(SCORES)
    assert lists.keys() == shown.keys()
    for inference_id, row in lists.items():
        listed = sorted((item for item in row.ranking if item.rank), key=lambda item: item.rank)
        assert [item.id for item in listed] == shown[inference_id]
        assert [item.score for item in row.ranking] == list(SCORES.values())
        assert "bob@acme.org" not in str(row.ranking)
        order = [names.index(item.id) for item in listed]
        logged = prefix_log_propensities(list(SCORES.values()), Policy(2.0, 0.1), order)
        assert [item.prefix_log_propensity for item in listed] == pytest.approx(logged)
        assert row.list_log_propensity == pytest.approx(logged[-1])

    target = Policy(0.4)
    rewards = dict.fromkeys(lists, 0.0)
    for click in clicks:
        rewards[click.inference_id] += len(click.items)
    weighted = []
    for inference_id, row in lists.items():
        order = [names.index(name) for name in shown[inference_id]]
        wanted = prefix_log_propensities(list(SCORES.values()), target, order)[-1]
        weighted.append(math.exp(wanted - row.list_log_propensity) * rewards[inference_id])
    truth = sum(
        math.exp(prefix_log_propensities(list(SCORES.values()), target, order)[-1])
        * sum(look * QUALITY[names[index]] for index, look in zip(order, SEEN, strict=True))
        for order in itertools.permutations(range(3))
    )
    value, error = estimate(weighted)
    assert abs(value - truth) < 3 * error < 0.3
    naive, naive_error = estimate(list(rewards.values()))
    assert abs(naive - truth) > 2 * naive_error, (
        "the logged mean is another policy's value: the test can tell them apart"
    )


def test_another_choice_policy_is_evaluated_from_what_the_lake_holds(tmp_path):
    settings = {"n": 3, "policy": "softmax", "temperature": 2.0, "epsilon": 0.2}
    product = Product(tmp_path, **{f"gateway.best_of.{key}": value for key, value in settings.items()})
    users, n = random.Random(8), 400
    liked = [0.1, 0.4, 0.85]
    served = {}

    async def use(client):
        for _ in range(n):
            body = {"messages": [{"role": "user", "content": "what is it"}]}
            answer = (await client.post("/v1/chat/completions", json=body, headers=CONSENT)).json()
            text = answer["choices"][0]["message"]["content"]
            served[answer["flywheel"]["inference_id"]] = text
            thumb = 1 if users.random() < liked[int(text[-1])] else -1
            await react(client, answer, kind="thumbs", value=thumb, choice_index=0)

    product.serve(use)
    answers, thumbs = product.ingest()
    assert {key: row.choices[row.choice_served] for key, row in answers.items()} == served
    logging, target = probabilities([0, 0.8, 1.6], Policy(2.0, 0.2)), probabilities([0, 0.8, 1.6], GREEDY)
    weighted, plain = [], []
    for thumb in thumbs:
        row = answers[thumb.inference_id]
        assert row.choice_propensity == pytest.approx(logging[row.choice_served])
        choice = row.rated_choice(thumb.choice_index)
        weighted.append(target[choice] / row.choice_propensity * (thumb.value > 0))
        plain.append(float(thumb.value > 0))
    value, error = estimate(weighted)
    assert abs(value - liked[2]) < 5 * error < 0.8
    naive, naive_error = estimate(plain)
    assert liked[2] - naive > 5 * naive_error

    candidates, drops = build_candidates(
        list(answers.values()), thumbs, consented=answers.keys(), excluded=Exclusions()
    )
    assert {row.inference_id: row.answer for row in candidates} == {
        thumb.inference_id: served[thumb.inference_id] for thumb in thumbs if thumb.value > 0
    }, "a thumb joins the answer that was served, wherever it was drawn"
    assert {drop.reason for drop in drops} == {"disliked_without_correction"}


def test_without_consent_a_list_keeps_its_numbers_and_loses_its_texts(tmp_path):
    product = Product(tmp_path)

    async def use(client):
        items = [
            {"id": "a", "text": "secret", "features": {"price": 2.0, "brand": "acme"}, "score": 1.0},
            {"id": "b", "score": 0.0},
        ]
        answer = (await client.post("/v1/rank", json={"items": items, "query": "secret too"})).json()
        await react(client, answer, kind="click", items=[{"id": "a", "rank": 1, "action": "mail bob@acme.org"}])

    product.serve(use)
    lists, clicks = product.ingest()
    (row,) = lists.values()
    assert (row.messages, [item.text for item in row.ranking]) == ([], [None, None])
    assert row.ranking[0].features == {"price": 2.0}
    assert [item.score for item in row.ranking] == [1.0, 0.0]
    assert row.list_log_propensity is not None
    assert row.list_log_propensity < 0
    assert "bob@acme.org" not in clicks[0].model_dump_json()


def test_a_list_is_no_candidate_for_training_and_says_so(tmp_path):
    product = Product(tmp_path)

    async def use(client):
        answer = (
            await client.post("/v1/rank", json={"items": [{"id": "a", "score": 1}], "query": "q"}, headers=CONSENT)
        ).json()
        await react(client, answer, kind="thumbs", value=1)

    product.serve(use)
    lists, thumbs = product.ingest()
    candidates, drops = build_candidates(list(lists.values()), thumbs, consented=lists.keys(), excluded=Exclusions())
    assert candidates == []
    assert [drop.reason for drop in drops] == ["ranked_list"]
