import asyncio

import openai
import pytest
from served_gateway import served_gateway

from flywheel.client import AsyncFlywheel, Flywheel, Ticket
from flywheel.errors import UsageError

ASKED = {"model": "triage", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with served_gateway(tmp_path_factory.mktemp("client"), keys=["secret"]) as served:
        yield served


@pytest.fixture
def client(gateway):
    with Flywheel(base_url=gateway.url, api_key="secret") as made:
        yield made.about(user="ada", session="s-1", consent=["training", "evaluation"])


def test_an_answer_is_rated_with_what_it_brought(gateway, client):
    answer = client.chat.completions.create(**ASKED)
    assert answer.choices[0].message.content == "HELLO"
    receipt = client.feedback(answer, "thumbs", value=1)
    asked = gateway.rows("inference")[-1]
    assert (asked["subject"], asked["session_id"], asked["consent"]) == ("ada", "s-1", ["training", "evaluation"])
    rated = gateway.rows("feedback")[-1]
    assert rated["feedback_id"] == receipt.feedback_id
    assert (rated["inference_id"], rated["kind"], rated["value"]) == (asked["inference_id"], "thumbs", 1)


def test_the_first_chunk_of_a_stream_can_be_rated_and_a_ticket_kept_for_later(gateway, client):
    chunks = list(client.chat.completions.create(**ASKED, stream=True))
    ticket = Ticket.of(chunks[0])
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "HELLO"
    client.feedback(ticket, "correction", text="Hello!")
    assert gateway.rows("feedback")[-1]["text"] == "Hello!"
    with pytest.raises(UsageError, match="later chunk"):
        client.feedback(chunks[-1], "thumbs", value=1)
    assert (
        Ticket.of({"flywheel": {"inference_id": "i", "feedback_token": "t", "model_version": "v"}}).inference_id == "i"
    )


def test_an_event_sent_twice_under_one_key_is_one_row(gateway, client):
    answer = client.chat.completions.create(**ASKED)
    ids = {client.feedback(answer, "copy", value=3, idempotency_key="event-1").feedback_id for _ in range(2)}
    others = {client.feedback(answer, "copy", value=3).feedback_id for _ in range(2)}
    assert len(ids) == 1
    assert len(others) == 2


def test_what_the_next_request_is_about_is_said(gateway, client):
    first = client.chat.completions.create(**ASKED)
    client.about(parent=Ticket.of(first)).chat.completions.create(**ASKED)
    assert gateway.rows("inference")[-1]["parent_id"] == Ticket.of(first).inference_id
    assert gateway.rows("inference")[-1]["subject"] == "ada", "the person stays"


def test_consent_is_recorded(gateway, client):
    client.consent("ada", ["training"], granted=False)
    said = gateway.rows("consent")[-1]
    assert (said["subject"], said["purpose"], said["state"]) == ("ada", "training", "withdrawn")


def test_refusals_are_openais_errors(gateway, client):
    answer = client.chat.completions.create(**ASKED)
    with pytest.raises(openai.BadRequestError, match="thumbs"):
        client.feedback(answer, "thumbs", value=7)
    forged = Ticket(Ticket.of(answer).inference_id, "forged", "v1")
    with pytest.raises(openai.PermissionDeniedError):
        client.feedback(forged, "thumbs", value=1)
    with Flywheel(base_url=gateway.url, api_key="wrong") as stranger, pytest.raises(openai.AuthenticationError):
        stranger.feedback(answer, "thumbs", value=1)


def test_the_asynchronous_client_does_the_same(gateway):
    async def talk():
        async with AsyncFlywheel(base_url=gateway.url, api_key="secret") as base:
            client = base.about(user="bob", session="s-2", consent=["training"])
            answer = await client.chat.completions.create(**ASKED)
            await client.consent("bob", ["evaluation"])
            return await client.feedback(answer, "rating", value=4)

    receipt = asyncio.run(talk())
    rated = gateway.rows("feedback")[-1]
    assert (rated["feedback_id"], rated["value"]) == (receipt.feedback_id, 4)
    assert gateway.rows("inference")[-1]["subject"] == "bob"
    assert gateway.rows("consent")[-1]["state"] == "granted"
