"""Best-of-n through the HTTP service: one answer for the client, all of them with true chances in the row."""

import asyncio
import json
import math
import sqlite3
from collections import Counter
from contextlib import asynccontextmanager

import httpx
import pytest
from scipy.stats import chisquare

from flywheel.capture.outbox import Outbox, outbox_folder
from flywheel.config import FlywheelConfig, load
from flywheel.errors import UsageError
from flywheel.gateway.api import build_app
from flywheel.gateway.auth import ApiKeys
from flywheel.gateway.choosing.best_of import mean_logprob, not_for
from flywheel.gateway.choosing.rankers import Likelihood, RankerProblem, Scored
from flywheel.gateway.service import Gateway
from flywheel.records import Inference
from flywheel.rollout import routing
from flywheel.rollout.routing import Shadow, Variant
from flywheel.statistics.policies import softmax
from flywheel.testing import FakeEngine, LocalEngines, MemoryStore

CONSENT = {"x-flywheel-consent": "training,evaluation"}
LOGPROBS = [-2.0, -0.5, -1.0, -3.0]


class DrawingEngine(FakeEngine):
    """Numbers its answers, and reports log-probabilities where it is asked for them."""

    async def chat(self, body):
        answer = await super().chat(body)
        for choice in answer.get("choices", []):
            choice["message"]["content"] += f" {choice['index']}"
            if body.get("logprobs"):
                value = LOGPROBS[choice["index"]]
                tokens = [{"token": "t", "logprob": value - 0.25}, {"token": "u", "logprob": value + 0.25}]
                choice["logprobs"] = {"content": tokens}
        return answer


class Rewards:
    """Prefers what it is told to."""

    name = "reward"

    def __init__(self, *scores, delay_s=0.0, error=None):
        self.scores, self.delay_s, self.error, self.asked = list(scores), delay_s, error, []

    async def score(self, messages, candidates):
        self.asked.append(([message.content for message in messages], [one.text for one in candidates]))
        await asyncio.sleep(self.delay_s)
        if self.error is not None:
            raise self.error
        return Scored(self.scores[: len(candidates)], "helpful-7")


class World:
    def __init__(self, tmp_path, ranker, shadows=(), **settings):
        overrides = {f"gateway.best_of.{key}": value for key, value in settings.items()}
        self.config = load(FlywheelConfig, None, {"home": str(tmp_path), "gateway.routing_poll_s": 0.02, **overrides})
        self.engine = DrawingEngine("v1")
        store = MemoryStore()
        state = routing.bootstrap("triage", Variant(version="v1", folder="/v1"), actor="test")
        routing.publish(store, state)
        for name in shadows:
            state = routing.with_shadow(state, Shadow(version=name, folder="/x"), actor="t", reason="r")
            routing.publish(store, state)
        self.gateway = Gateway(
            self.config,
            store=store,
            engines=LocalEngines(self.engine, *(FakeEngine(name) for name in shadows)),
            outbox=Outbox.open(outbox_folder(self.config), group_commit_ms=0),
            feedback_key=b"k",
            keys=ApiKeys([]),
            ranker=lambda _name, _config: ranker,
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
                return [await client.post("/v1/chat/completions", json=body, headers=headers) for body in bodies]

        return asyncio.run(run())


def ask(text="hello", **more):
    return {"model": "triage", "messages": [{"role": "user", "content": text}], **more}


def test_the_best_answer_is_served_and_all_are_kept(tmp_path):
    ranker = Rewards(0.1, 0.9, 0.4)
    world = World(tmp_path, ranker, n=3, policy="epsilon_greedy", epsilon=0)
    (answer,) = world.ask(ask(temperature=0.7))
    (choice,) = answer.json()["choices"]
    assert (choice["index"], choice["message"]["content"]) == (0, "HELLO 1")
    assert "logprobs" not in choice
    row = Inference.model_validate(world.rows()[0])
    assert row.choices == ["HELLO 0", "HELLO 1", "HELLO 2"]
    assert (row.choice_served, row.choice_scores, row.choice_propensity) == (1, [0.1, 0.9, 0.4], 1.0)
    assert row.propensity == 1.0, "that of the model, not of the choice"
    assert row.choosing is not None
    assert row.choosing.model_dump(exclude_none=True) == {
        "policy": "epsilon_greedy", "temperature": 0.0, "epsilon": 0.0, "ranker": "reward",
        "ranker_version": "helpful-7",
    }  # fmt: skip
    assert row.finish_reason == "stop"
    assert ranker.asked == [(["hello"], row.choices)]
    assert world.engine.bodies[0]["n"] == 3


def test_the_logged_chance_is_how_often_a_choice_is_served(tmp_path):
    scores, n = [0.0, 1.0, 2.0], 250
    world = World(tmp_path, Rewards(*scores), n=3, policy="softmax", temperature=0.8, epsilon=0.2)
    world.ask(*[ask()] * n)
    rows = world.rows()
    expected = [0.2 / 3 + 0.8 * share for share in softmax(scores, 0.8)]
    assert all(row["choice_propensity"] == pytest.approx(expected[row["choice_served"]]) for row in rows)
    served = Counter(row["choice_served"] for row in rows)
    assert chisquare([served[index] for index in range(3)], [share * n for share in expected]).pvalue > 1e-6


def test_likelihood_needs_no_model_and_tells_the_client_nothing(tmp_path):
    world = World(tmp_path, Likelihood(), n=4, policy="epsilon_greedy", epsilon=0)
    quiet, asked = world.ask(ask(), ask(logprobs=True))
    assert quiet.json()["choices"][0]["message"]["content"] == "HELLO 1"
    assert "logprobs" not in quiet.json()["choices"][0]
    assert len(asked.json()["choices"][0]["logprobs"]["content"]) == 2
    assert world.rows()[0]["choice_scores"] == pytest.approx(LOGPROBS)
    assert world.engine.bodies[0]["logprobs"] is True


@pytest.mark.parametrize(
    ("ranker", "why"),
    [
        (Rewards(1.0, 2.0, delay_s=5), "timeout"),
        (Rewards(error=RankerProblem("unavailable", "gone")), "unavailable"),
        (Rewards(error=ValueError("a bug")), "failed"),
        (Rewards(1.0, math.nan), "not_finite"),
        (Rewards(math.inf, 0.0), "not_finite"),
        (Rewards(1.0), "wrong_count"),
    ],
)
def test_without_scores_every_answer_has_the_same_true_chance(tmp_path, ranker, why):
    world = World(tmp_path, ranker, n=2, policy="epsilon_greedy", epsilon=0, timeout_s=0.01 if why == "timeout" else 10)
    answers = world.ask(*[ask()] * 40)
    rows = world.rows()
    assert {row["choice_served"] for row in rows} == {0, 1}
    assert {row["choice_propensity"] for row in rows} == {0.5}
    assert all(row["choosing"]["fallback"] == why and row["choosing"]["policy"] == "uniform" for row in rows)
    assert all(row["choice_scores"] == [] and row["choosing"]["ranker_version"] is None for row in rows)
    texts = [answer.json()["choices"][0]["message"]["content"] for answer in answers]
    assert texts == [row["choices"][row["choice_served"]] for row in rows]


def test_fallbacks_are_counted_and_told_once(tmp_path, caplog):
    world = World(tmp_path, Rewards(error=RankerProblem("unavailable", "it is gone")), n=2)

    async def run():
        async with world.client() as client:
            for _ in range(3):
                await client.post("/v1/chat/completions", json=ask())
            return (await client.get("/metrics")).text

    with caplog.at_level("WARNING", logger="flywheel.gateway.choosing"):
        metrics = asyncio.run(run())
    assert len([record for record in caplog.records if "it is gone" in record.getMessage()]) == 1
    assert 'flywheel_ranker_fallbacks_total{ranker="reward",reason="unavailable"}' in metrics


@pytest.mark.parametrize(
    ("body", "engine_n"),
    [
        (ask(), None),  # off by default
        (ask(best_of=1), None),
        (ask(best_of=3), 3),
        (ask(best_of=3, temperature=0), None),  # all answers would be the same, and vLLM refuses it
        (ask(n=2), 2),  # the client wants to choose by itself
    ],
)
def test_who_asks_for_what(tmp_path, body, engine_n):
    world = World(tmp_path, Rewards(3.0, 2.0, 1.0))
    (answer,) = world.ask(body)
    assert answer.status_code == 200
    assert world.engine.bodies[0].get("n") == engine_n
    assert "best_of" not in world.engine.bodies[0]
    (row,) = world.rows()
    assert (row["choosing"] is not None) == (engine_n == 3)
    assert len(answer.json()["choices"]) == (2 if engine_n == 2 else 1)


def test_a_client_that_asks_for_several_answers_switches_best_of_off(tmp_path):
    world = World(tmp_path, Rewards(1.0, 2.0, 3.0), n=3)
    (answer,) = world.ask(ask(n=2))
    assert [choice["index"] for choice in answer.json()["choices"]] == [0, 1]
    (row,) = world.rows()
    assert (row["choice_propensity"], row["choosing"], len(row["choices"])) == (None, None, 2)


@pytest.mark.parametrize(
    "body", [ask(best_of=0), ask(best_of=99), ask(best_of="2"), ask(best_of=True), ask(best_of=2, n=2)]
)
def test_what_makes_no_sense_is_refused(tmp_path, body):
    (answer,) = World(tmp_path, Rewards()).ask(body)
    assert answer.status_code == 400
    assert "best_of" in answer.json()["error"]["message"]


def test_a_stream_begins_when_the_choice_is_made(tmp_path):
    world = World(tmp_path, Rewards(0.0, 5.0), n=2, policy="epsilon_greedy", epsilon=0)
    (answer,) = world.ask(ask(stream=True, stream_options={"include_usage": True}))
    assert answer.text.endswith("data: [DONE]\n\n")
    chunks = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    assert "".join(part["delta"].get("content", "") for chunk in chunks for part in chunk["choices"]) == "HELLO 1"
    assert {part["index"] for chunk in chunks for part in chunk["choices"]} == {0}
    assert chunks[-1]["usage"]["completion_tokens"] == 3
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    (row,) = world.rows()
    assert (row["choices"], row["choice_served"]) == (["HELLO 0", "HELLO 1"], 1)
    assert row["ttft_ms"] <= row["latency_ms"]


def test_an_engine_error_stays_an_engine_error(tmp_path):
    one, two = World(tmp_path, Rewards(1.0, 2.0), n=2).ask(ask("FAIL"), ask("FAIL", stream=True))
    assert (one.status_code, two.status_code) == (400, 400)


def test_the_shadow_is_compared_with_a_plain_draw(tmp_path):
    world = World(tmp_path, Rewards(0.0, 5.0), shadows=["v2"], n=2, policy="epsilon_greedy", epsilon=0)

    async def run():
        async with world.client() as client:
            await client.post("/v1/chat/completions", json=ask(), headers=CONSENT)
            for _ in range(200):
                if world.rows("shadow_pair"):
                    return
                await asyncio.sleep(0.01)

    asyncio.run(run())
    (pair,) = world.rows("shadow_pair")
    assert (pair["live_answer"], pair["candidate_answer"]) == ("HELLO 0", "HELLO")


def test_a_rating_of_the_one_answer_means_the_served_one():
    row = {"inference_id": "i", "flow": "f", "ts": "2026-01-01T00:00:00Z", "subject": "s", "model_version": "m",
           "messages": [], "choices": ["a", "b", "c"]}  # fmt: skip
    chosen = {"policy": "softmax", "temperature": 1, "epsilon": 0, "ranker": "reward"}
    best_of = Inference.model_validate({**row, "choice_served": 2, "choosing": chosen})
    assert best_of.rated_choice(0) == 2
    assert [Inference.model_validate(row).rated_choice(index) for index in (0, 1, 2)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"messages": []}, None),
        ({"messages": [], "n": 1, "temperature": 0.1, "tools": []}, None),
        ({"prompt": "a completion"}, "no_chat"),
        ({"messages": [], "n": 2}, "client_asked_n"),
        ({"messages": [], "tools": [{"type": "function"}]}, "tools"),
        ({"messages": [], "temperature": 0}, "greedy"),
        ({"messages": [], "temperature": 1e-6}, "greedy"),
    ],
)
def test_a_request_that_gets_one_draw_has_a_reason(body, why):
    assert not_for(body) == why


def test_a_choice_without_tokens_has_no_likelihood():
    assert mean_logprob({"logprobs": {"content": [{"logprob": -1.0}, {"logprob": -3.0}]}}) == -2.0
    assert mean_logprob({"logprobs": {"content": []}}) is None
    assert mean_logprob({"logprobs": None}) is None


def test_a_reward_ranker_needs_a_model():
    with pytest.raises(UsageError, match=r"gateway\.ranker\.model"):
        load(FlywheelConfig, None, {"gateway.best_of.ranker": "reward"})
