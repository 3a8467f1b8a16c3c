"""An OpenAI-compatible endpoint: what is sent, what is tried again, what is never said."""

import threading

import pytest

from flywheel.errors import UsageError
from flywheel.judging.endpoint import Endpoint, is_inside
from flywheel.judging.prompts import CHOICE_SCHEMA
from flywheel.records import Message
from flywheel.testing import FakeOpenAI

PROMPTS = [[Message(role="user", content=f"q{number}")] for number in range(12)]


def ask(server, prompts=PROMPTS[:1], **settings):
    endpoint = Endpoint(server.url, "m", inside=True, **{"pause_s": 0.01, **settings})
    return endpoint, endpoint(prompts, CHOICE_SCHEMA)


def content(body):
    return body["messages"][-1]["content"]


def test_replies_come_in_order_and_no_more_are_in_flight_than_allowed():
    lock, now, most = threading.Lock(), [0], [0]

    def reply(body):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        threading.Event().wait(0.02)
        with lock:
            now[0] -= 1
        return content(body).upper()

    seen = []
    with FakeOpenAI(reply) as server:
        endpoint = Endpoint(server.url, "m", inside=True, concurrency=3)
        answers = endpoint(PROMPTS, CHOICE_SCHEMA, lambda done, total: seen.append((done, total)))
    assert [answer.text for answer in answers] == [f"Q{number}" for number in range(12)]
    assert 1 < most[0] <= 3
    assert seen == [(done, 12) for done in range(1, 13)]
    assert endpoint.reported == ["fake-1"]


def test_the_request_is_greedy_held_to_the_form_and_bears_the_key(monkeypatch):
    monkeypatch.setenv("A_KEY", "sk-secret")
    with FakeOpenAI(lambda _: "x") as server:
        endpoint, _ = ask(server, key_env="A_KEY")
        ask(server, form="free")
    (headers, body), (bare, free) = server.calls
    assert headers["authorization"] == "Bearer sk-secret"
    assert (body["temperature"], body["max_tokens"], body["model"]) == (0.0, 32, "m")
    assert body["response_format"]["json_schema"]["schema"] == CHOICE_SCHEMA
    assert "response_format" not in free
    assert "authorization" not in bare
    assert "sk-secret" not in repr(endpoint)


def test_a_missing_key_is_said_before_anything_is_sent(monkeypatch):
    monkeypatch.delenv("A_KEY", raising=False)
    with FakeOpenAI(lambda _: "x") as server, pytest.raises(UsageError, match="A_KEY"):
        ask(server, key_env="A_KEY")
    assert server.calls == []


@pytest.mark.parametrize(("status", "tries"), [(429, 3), (503, 3), (400, 1), (401, 1), (307, 1)])
def test_what_may_pass_is_tried_again(status, tries):
    with FakeOpenAI(lambda _: (status, "no")) as server:
        _, (answer,) = ask(server, attempts=3)
    assert len(server.calls) == tries
    assert f"HTTP {status}: no" in answer.error
    assert answer.error.startswith("refused: ") == (status == 400)


def test_a_second_try_may_succeed():
    replies = iter([(500, "oops"), (429, "slow down"), "fine"])
    with FakeOpenAI(lambda _: next(replies)) as server:
        _, (answer,) = ask(server)
    assert (answer.text, answer.error) == ("fine", None)


def test_a_key_that_the_endpoint_echoes_is_not_repeated(monkeypatch):
    monkeypatch.setenv("A_KEY", "sk-secret")
    with FakeOpenAI(lambda _: (401, "wrong key sk-secret")) as server:
        _, (answer,) = ask(server, key_env="A_KEY")
    assert answer.error == "HTTP 401: wrong key ***"


@pytest.mark.parametrize("text", ["no json", "[]", "{}", '{"choices": []}', '{"choices": [{"message": null}]}'])
def test_other_bodies_than_completions_are_errors(text):
    with FakeOpenAI(lambda _: (200, text)) as server:
        _, (answer,) = ask(server)
    assert "not an OpenAI chat completion" in answer.error


def test_nobody_there():
    with FakeOpenAI(lambda _: "x") as server:
        url = server.url
    (answer,) = Endpoint(url, "m", inside=True, attempts=2, pause_s=0.01)(PROMPTS[:1], CHOICE_SCHEMA)
    assert "ConnectError" in answer.error


@pytest.mark.parametrize(
    ("url", "inside"),
    [
        ("http://127.0.0.1:8000/v1", True), ("http://[::1]/v1", True), ("http://localhost/v1", True),
        ("http://judge.models.svc.cluster.local/v1", True), ("http://judge.models.svc:80", True),
        ("http://gpu-box/v1", True), ("https://api.openai.com/v1", False), ("http://10.0.0.3/v1", False),
        ("http://localhost.example.com/v1", False), ("http://127.0.0.1.example.com", False),
        ("http://gpu-box.org", False),
    ],
)  # fmt: skip
def test_what_counts_as_inside(url, inside):
    assert is_inside(url, ["GPU-box"]) == inside
