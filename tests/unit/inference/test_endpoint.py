"""An OpenAI-compatible service over a fake network: order, retries, what is final, and where the key is."""

import json

import httpx
import pytest

from flywheel.evaluation.run import Generate
from flywheel.inference import endpoint as module
from flywheel.inference.endpoint import Endpoint
from flywheel.records import Message


class Service:
    """Answers with the question in capitals; the first ``busy`` requests with 429."""

    def __init__(self, busy=0, answers=None):
        self.requests, self.busy, self.answers = [], busy, answers or {}

    def __call__(self, request):
        self.requests.append(request)
        body = json.loads(request.content)
        if len(self.requests) <= self.busy:
            return httpx.Response(429)
        text = body["messages"][-1]["content"]
        if text in self.answers:
            return self.answers[text]
        choice = {"message": {"role": "assistant", "content": text.upper()}, "finish_reason": "stop"}
        return httpx.Response(200, json={"choices": [choice], "usage": {"prompt_tokens": 4, "completion_tokens": 1}})


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "wait_exponential_jitter", lambda **_: lambda _: 0)


def ask(service, texts, **settings):
    generate: Generate = Endpoint("https://api.test/v1", "TEST_KEY", httpx.MockTransport(service))
    said = [[Message(role="user", content=text)] for text in texts]
    return generate("big", said, **{"max_tokens": 8, **settings})


def test_answers_come_in_order_with_usage_and_the_key_is_sent_in_the_header_only(monkeypatch):
    monkeypatch.setenv("TEST_KEY", "s3cret")
    service, seen = Service(), []
    done = ask(service, [f"t{n}" for n in range(20)], seed=7, temperature=0.5, concurrency=4, on_progress=seen.append)
    assert [one.text for one in done] == [f"T{n}" for n in range(20)]
    assert (done[0].prompt_tokens, done[0].completion_tokens, done[0].error) == (4, 1, None)
    assert done[0].latency_ms > 0
    assert seen == list(range(1, 21))
    request = service.requests[0]
    assert str(request.url) == "https://api.test/v1/chat/completions"
    assert request.headers["authorization"] == "Bearer s3cret"
    body = json.loads(request.content)
    assert (body["model"], body["max_tokens"], body["temperature"], body["seed"]) == ("big", 8, 0.5, 7)


def test_without_a_key_or_a_seed_none_is_sent(monkeypatch):
    monkeypatch.delenv("TEST_KEY", raising=False)
    service = Service()
    ask(service, ["a"])
    assert "authorization" not in service.requests[0].headers
    assert "seed" not in json.loads(service.requests[0].content)


def test_a_busy_service_is_asked_again_and_a_dead_one_is_an_error_that_may_pass():
    assert ask(Service(busy=2), ["a"])[0].text == "A"
    service = Service(busy=99)
    lost = ask(service, ["a"])[0]
    assert (lost.error, len(service.requests)) == ("the endpoint answered 429", module.ATTEMPTS)

    def dead(_):
        raise httpx.ConnectError("no route")

    assert ask(dead, ["a"])[0].error == "no route"


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (httpx.Response(400, json={"error": {"message": "too long"}}), "refused: the endpoint answered 400: too long"),
        (httpx.Response(401, json={"error": "bad key"}), "the endpoint answered 401: bad key"),
        (httpx.Response(404, text="<html>"), "the endpoint answered 404: no message"),
        (httpx.Response(200, text="<html>"), "the endpoint's answer is no chat completion"),
        (httpx.Response(200, json={"choices": []}), "the endpoint's answer is no chat completion"),
    ],
)
def test_only_what_is_about_the_request_is_final(response, error):
    done = ask(Service(answers={"bad": response}), ["good", "bad"])
    assert (done[0].text, done[1].error) == ("GOOD", error)
