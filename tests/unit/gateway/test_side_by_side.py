"""Two answers side by side: who is shown them, what is recorded, and that a bad candidate is never noticed."""

import asyncio
import functools

import pytest
from gateway_world import World

from flywheel.rollout.routing import Canary
from flywheel.testing import FakeEngine, LocalEngines

BODY = {"messages": [{"role": "user", "content": "hello"}], "user": "ann"}
ASKS = {"x-flywheel-side-by-side": "yes", "x-flywheel-consent": "training,evaluation"}
ON = {"gateway.side_by_side.share": 1.0, "gateway.side_by_side.timeout_s": 20}


def run(test):
    """A test that is a coroutine."""

    @functools.wraps(test)
    def wrapped(*args, **kwargs):
        asyncio.run(test(*args, **kwargs))

    return wrapped


class Named(FakeEngine):
    """Says who it is, unless it is told to do something else."""

    def __init__(self, version, fault=None):
        super().__init__(version)
        self.fault = fault

    async def chat(self, body):
        answer = await super().chat(body)
        if self.fault == "error":
            raise RuntimeError("the engine is broken on purpose")
        if self.fault == "slow":
            await asyncio.sleep(30)
        if self.fault == "garbage":
            return {"choices": [{}]}
        if self.fault != "same":
            answer["choices"][0]["message"]["content"] += f" says {self.version}"
        return answer


def world(tmp_path, fault=None, settings=None):
    live = Named("v1", "same" if fault == "same" else None)
    return World(tmp_path, ON | (settings or {}), engines=LocalEngines(live, Named("v2", fault)))


async def ask(http, headers=None, **body):
    answer = await http.post("/v1/chat/completions", json=BODY | body, headers=ASKS | (headers or {}))
    assert answer.status_code == 200, answer.text
    return answer.json()


def texts(answer):
    return [choice["message"]["content"] for choice in answer["choices"]]


@run
async def test_two_models_answer_in_random_order_and_the_row_says_who_is_who(tmp_path):
    made = world(tmp_path)
    async with made.http() as http:
        answers = [await ask(http) for _ in range(24)]
    rows = {row["inference_id"]: row for row in made.rows()}
    orders = set()
    for answer in answers:
        row = rows[answer["flywheel"]["inference_id"]]
        said = texts(answer)
        assert [choice["index"] for choice in answer["choices"]] == [0, 1]
        assert sorted(text.rpartition(" ")[2] for text in said) == ["v1", "v2"]
        assert (row["choices"], row["choice_versions"]) == (said, [text.rpartition(" ")[2] for text in said])
        assert row["choice_versions"][row["choice_served"]] == row["model_version"] == "v1"
        assert (row["assignment"], row["propensity"], row["traffic_kind"]) == ("side_by_side", 1.0, "live")
        orders.add(tuple(row["choice_versions"]))
    assert len(orders) == 2
    tokens = [row["completion_tokens"] for row in rows.values()]
    assert tokens == [answer["usage"]["completion_tokens"] for answer in answers]


@run
async def test_what_the_user_prefers_is_a_comparison_of_the_place(tmp_path):
    made = world(tmp_path)
    async with made.http() as http:
        told = (await ask(http))["flywheel"]
        said = {"kind": "comparison", "value": 1, "choice_index": 1}
        about = {"inference_id": told["inference_id"], "feedback_token": told["feedback_token"]}
        assert (await http.post("/v1/feedback", json=about | said)).status_code == 200
    (row,) = made.rows("feedback")
    assert (row["kind"], row["value"], row["choice_index"]) == ("comparison", 1.0, 1)


@run
async def test_the_candidate_answers_once_and_is_not_mirrored_as_well(tmp_path):
    made = world(tmp_path)
    async with made.http() as http:
        for _ in range(3):
            await ask(http)
        await asyncio.sleep(0.3)
    asked = [body["request_id"] for body in made.engines.engines["v2"].bodies]
    assert len(asked) == 3
    assert all(name.endswith("-beside") for name in asked)


@pytest.mark.parametrize("fault", ["error", "slow", "garbage", "same"])
@run
async def test_a_candidate_with_nothing_to_show_is_not_noticed(tmp_path, fault):
    made = world(tmp_path, fault, {"gateway.side_by_side.timeout_s": 0.2 if fault == "slow" else 20})
    async with made.http() as http:
        answer = await ask(http)
    assert len(texts(answer)) == 1
    (row,) = made.rows()
    assert (row["model_version"], row["choices"], row.get("choice_versions") or []) == ("v1", texts(answer), [])


@run
async def test_a_candidate_that_keeps_failing_is_left_alone(tmp_path):
    made = world(tmp_path, "error")
    async with made.http() as http:
        for _ in range(8):
            await ask(http)
    asked = [body for body in made.engines.engines["v2"].bodies if body["request_id"].endswith("-beside")]
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"x-flywheel-side-by-side": "no"}, {}),
        ({"x-flywheel-side-by-side": ""}, {}),
        ({"x-flywheel-consent": "training"}, {}),
        ({"x-flywheel-consent": "none"}, {}),
        ({}, {"n": 2}),
        ({}, {"model": "v2"}),
        ({}, {"best_of": 2}),
        ({}, {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}),
    ],
)
@run
async def test_everybody_else_gets_the_live_models_answer(tmp_path, headers, body):
    made = world(tmp_path)
    async with made.http() as http:
        await ask(http, headers, **body)
    (row,) = made.rows()
    assert (row["assignment"], row.get("choice_versions") or []) == ("pinned" if "model" in body else "only", [])


@run
async def test_a_share_of_the_users_is_asked_the_same_ones_each_time(tmp_path):
    made = world(tmp_path, settings={"gateway.side_by_side.share": 0.3})
    async with made.http() as http:
        shown = [[len(texts(await ask(http, user=f"user-{n}"))) for n in range(150)] for _ in range(2)]
    assert shown[0] == shown[1]
    assert 25 <= sum(count == 2 for count in shown[0]) <= 65


@run
async def test_what_is_no_yes_is_refused(tmp_path):
    made = world(tmp_path)
    async with made.http() as http:
        answer = await http.post("/v1/chat/completions", json=BODY, headers={"x-flywheel-side-by-side": "maybe"})
    assert answer.status_code == 400
    assert "neither yes nor no" in answer.json()["error"]["message"]
    assert made.rows() == []


@run
async def test_a_live_model_that_fails_is_an_error_whatever_the_candidate_says(tmp_path):
    made = world(tmp_path)
    made.engines.engines["v1"].fault = "error"
    async with made.http() as http:
        answer = await http.post("/v1/chat/completions", json=BODY, headers=ASKS)
    assert answer.status_code >= 500


@run
async def test_a_header_that_is_too_long_is_refused_although_the_body_names_the_user(tmp_path):
    made = world(tmp_path)
    async with made.http() as http:
        answer = await http.post("/v1/chat/completions", json=BODY, headers={"x-flywheel-user": "x" * 257})
    assert answer.status_code == 400
    assert "x-flywheel-user" in answer.json()["error"]["message"]


@pytest.mark.parametrize(("tenant", "shown"), [("default", 2), ("somebody else", 1)])
@run
async def test_a_canary_is_shown_to_its_own_tenants(tmp_path, tenant, shown):
    made = world(tmp_path)
    async with made.http() as http:
        now = made.gateway.router.policy
        only = now.model_copy(update={"shadows": [], "canaries": [canary_for(tenant)]})
        made.gateway.router.policy = made.gateway.router._newest = only
        answer = await ask(http)
    assert len(texts(answer)) == shown


def canary_for(tenant):
    return Canary(version="v2", folder="/v2", share=0.25, tenants=[tenant])
