"""/v1/feedback and /v1/consent with keys: tokens, roles, tenants, batches, sessions; acknowledged means durable."""

import asyncio
import json
import sqlite3
from contextlib import asynccontextmanager

import httpx
import pytest
from uuid6 import uuid7

from flywheel.capture.outbox import Outbox, outbox_folder
from flywheel.config import FlywheelConfig, load
from flywheel.errors import CaptureError
from flywheel.gateway.api import build_app
from flywheel.gateway.auth import ApiKeys
from flywheel.gateway.keys import ApiKey, digest, new_id
from flywheel.gateway.service import Gateway
from flywheel.rollout import routing
from flywheel.rollout.routing import Variant
from flywheel.testing import FakeEngine, LocalEngines, MemoryStore


def key(secret, role, tenant="acme", **more):
    return ApiKey(
        id=new_id(), name=secret, sha256=digest(secret), roles=[role], flows=["triage"], tenant=tenant, **more
    )


KEYS = [
    key("product", "product"),
    key("server", "feedback"),
    key("rival", "product", "rival"),
    key("rival-server", "feedback", "rival"),
    key("few-tokens", "product", tokens_per_minute=60),
]


class Served:
    def __init__(self, tmp_path, **settings):
        self.config = load(FlywheelConfig, None, {"home": str(tmp_path), **settings})
        store, self.engine = MemoryStore(), FakeEngine("v1")
        routing.publish(store, routing.bootstrap("triage", Variant(version="v1", folder="/v1"), actor="test"))
        self.outbox = Outbox.open(outbox_folder(self.config), group_commit_ms=0)
        self.gateway = Gateway(
            self.config,
            store=store,
            engines=LocalEngines(self.engine),
            outbox=self.outbox,
            feedback_key=b"k",
            keys=ApiKeys(KEYS),
        )

    @asynccontextmanager
    async def client(self):
        transport = httpx.ASGITransport(app=build_app(self.gateway), raise_app_exceptions=False)
        await self.gateway.start()
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
                yield client
        finally:
            await self.gateway.stop()

    def rows(self, kind):
        path = next(outbox_folder(self.config).glob("*.db"))
        with sqlite3.connect(path) as db:
            found = db.execute("select body, tenant from events where kind = ? order by seq", (kind,)).fetchall()
        return [{**json.loads(body), "event_tenant": tenant} for body, tenant in found]


def run(served, use):
    async def inner():
        async with served.client() as client:
            return await use(Shop(client))

    return asyncio.run(inner())


class Shop:
    """A product that talks to the gateway."""

    def __init__(self, client):
        self.client = client

    async def post(self, path, body, secret="product", **headers):
        auth = {"authorization": f"Bearer {secret}"}
        return await self.client.post(path, json=body, headers={**auth, **headers})

    async def ask(self, secret="product", session=None, text="hello", **more):
        headers = {"x-flywheel-session": session} if session else {}
        body = {"messages": [{"role": "user", "content": text}], **more}
        answer = await self.post("/v1/chat/completions", body, secret, **headers)
        assert answer.status_code == 200, answer.text
        return answer.json()["flywheel"]

    async def rate(self, body, secret="product"):
        answer = await self.post("/v1/feedback", body, secret)
        return answer.status_code, answer.json()


def thumbs(ticket, **more):
    return {
        "inference_id": ticket["inference_id"],
        "feedback_token": ticket["feedback_token"],
        "kind": "thumbs",
        "value": 1,
        **more,
    }


def test_a_server_key_needs_no_token_but_one_it_sends_must_be_right(tmp_path):
    served = Served(tmp_path)

    async def use(shop):
        ticket = await shop.ask()
        bare = thumbs(ticket, feedback_token=None)
        return [
            (await shop.rate(bare, "server"))[0],
            (await shop.rate(thumbs(ticket), "server"))[0],
            (await shop.rate({**bare, "inference_id": str(uuid7())}, "server"))[0],
            (await shop.rate({**bare, "feedback_token": "forged"}, "server"))[0],
            (await shop.rate(bare))[0],
            (await shop.post("/v1/chat/completions", {"messages": []}, "server")).status_code,
            (
                await shop.post("/v1/consent", {"user": "a", "purpose": "training", "state": "granted"}, "server")
            ).status_code,
        ]

    assert run(served, use) == [200, 200, 200, 403, 401, 403, 403]
    assert len(served.rows("feedback")) == 3


def test_a_token_of_another_tenant_is_refused(tmp_path):
    served = Served(tmp_path)

    async def use(shop):
        ticket = await shop.ask(session="s")
        session = {"session_id": "s", "kind": "rating", "value": 5, "feedback_token": ticket["feedback_token"]}
        return [
            await shop.rate(thumbs(ticket), "rival"),
            await shop.rate(thumbs(ticket), "rival-server"),
            await shop.rate(session, "rival"),
        ]

    said = run(served, use)
    assert [(status, body["error"]["code"]) for status, body in said] == [(403, "token_mismatch")] * 3
    assert served.rows("feedback") == []


def test_rows_carry_the_tenant_of_the_key(tmp_path):
    served = Served(tmp_path)

    async def use(shop):
        for secret in ("product", "rival"):
            ticket = await shop.ask(secret, user="ann")
            assert (await shop.rate(thumbs(ticket), secret))[0] == 200
            said = {"user": "ann", "purpose": "training", "state": "withdrawn"}
            assert (await shop.post("/v1/consent", said, secret)).status_code == 200

    run(served, use)
    for kind in ("inference", "feedback"):
        assert [row["tenant"] for row in served.rows(kind)] == ["acme", "rival"]
    assert [row["event_tenant"] for row in served.rows("consent")] == ["acme", "rival"]


def test_a_batch_keeps_what_is_right_in_one_commit(tmp_path):
    served = Served(tmp_path)
    commits = []

    async def use(shop):
        one, two = await shop.ask(), await shop.ask()
        append = served.outbox.append

        async def counted(events):
            commits.append(len(events))
            await append(events)

        served.outbox.append = counted
        batch = {
            "items": [
                thumbs(one),
                thumbs(two, feedback_token=one["feedback_token"]),
                thumbs(two, value=7),
                "nonsense",
                {**thumbs(two), "kind": "dwell", "value": 900, "idempotency_key": "d1"},
            ]
        }
        first = await shop.rate(batch)
        return first, await shop.rate(batch), await shop.rate(thumbs(one))

    (status, body), again, alone = run(served, use)
    assert (status, body["recorded"], body["refused"]) == (207, 2, 3)
    codes = [result.get("error", {}).get("code", "recorded") for result in body["results"]]
    assert codes == ["recorded", "token_mismatch", None, None, "recorded"]
    assert again == (207, body), "sent again, a batch has the same ids"
    assert alone == (200, body["results"][0])
    assert commits == [2, 2, 1]


def test_a_batch_without_anything_right_is_refused_like_its_first_item(tmp_path):
    served = Served(tmp_path)

    async def use(shop):
        ticket = await shop.ask()
        forged = thumbs(ticket, feedback_token="forged")
        return await shop.rate({"items": [forged, thumbs(ticket, value=9)]})

    status, body = run(served, use)
    assert (status, body["error"]["code"], body["recorded"], len(body["results"])) == (403, "token_invalid", 0, 2)
    assert served.rows("feedback") == []


@pytest.mark.parametrize(("items", "status"), [([], 400), ({}, 400), (None, 400), ([{}] * 4, 413)])
def test_a_batch_has_a_size(tmp_path, items, status):
    served = Served(tmp_path, **{"gateway.feedback_items": 3})

    async def use(shop):
        return (await shop.rate({"items": items}))[0]

    assert run(served, use) == status


def test_a_batch_that_is_not_durable_is_not_acknowledged(tmp_path):
    served = Served(tmp_path)

    async def use(shop):
        ticket = await shop.ask()

        async def broken(_):
            raise CaptureError("the disk is full; free some space")

        served.outbox.append = broken
        return await shop.rate({"items": [thumbs(ticket)]})

    status, body = run(served, use)
    assert (status, body["error"]["code"]) == (503, "not_recorded")


def test_a_session_is_rated_with_the_token_of_any_of_its_answers(tmp_path):
    served = Served(tmp_path)

    async def use(shop):
        first, second = await shop.ask(session="s1"), await shop.ask(session="s1")
        other, alone = await shop.ask(session="s2"), await shop.ask()
        rating = {"session_id": "s1", "kind": "rating", "value": 2}

        def using(ticket, **more):
            return {**rating, "feedback_token": ticket["feedback_token"], **more}

        good = [await shop.rate(using(ticket)) for ticket in (first, second)]
        bad = [
            await shop.rate(body)
            for body in (
                rating,
                using(other),
                using(alone),
                using(first, inference_id=second["inference_id"]),
                using(first, session_id="s2"),
            )
        ]
        return first, good, bad, await shop.rate(rating, "server")

    first, good, bad, by_server = run(served, use)
    assert [status for status, _ in good] == [200, 200]
    assert good[0][1] == good[1][1], "one statement, whichever answer vouches for it"
    assert [status for status, _ in bad] == [401, 403, 403, 403, 403]
    assert by_server == good[0]
    rows = served.rows("feedback")
    assert [row["session_id"] for row in rows] == ["s1"] * 3
    assert rows[0]["inference_id"] == first["inference_id"]
    assert rows[2]["inference_id"] == ""


def test_the_token_does_not_tell_the_session(tmp_path):
    served = Served(tmp_path)

    async def use(shop):
        return await shop.ask(session="ann@corp.io")

    token = run(served, use)["feedback_token"]
    import base64

    payload = token.split(".")[0]
    assert b"ann" not in base64.urlsafe_b64decode(payload + "==")


def test_an_exhausted_token_budget_refuses_answers_but_not_ratings(tmp_path):
    served = Served(tmp_path)

    async def use(shop):
        ticket = await shop.ask("few-tokens", text="x" * 200)  # 200 and 3 tokens of a budget of 60
        refused = await shop.post(
            "/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}, "few-tokens"
        )
        other = await shop.ask("product")
        return refused, other, await shop.rate(thumbs(ticket), "few-tokens")

    refused, other, rated = run(served, use)
    error = refused.json()["error"]
    assert (refused.status_code, error["type"], error["code"]) == (429, "tokens", "rate_limit_exceeded")
    assert int(refused.headers["retry-after"]) in range(140, 146)
    assert other
    assert rated[0] == 200


@pytest.mark.parametrize("leave", [False, True, "before it began"])
def test_a_stream_is_charged_also_if_its_client_leaves(tmp_path, leave):
    served = Served(tmp_path)

    async def use(shop):
        body = {"messages": [{"role": "user", "content": "x" * 400}], "stream": True}
        headers = {"authorization": "Bearer few-tokens"}
        gateway = served.gateway
        caller = gateway.keys.check("Bearer few-tokens")
        if leave == "before it began":
            served.engine.delay_s = 30
            asking = asyncio.create_task(gateway.chat(gateway.asked(caller, body, {})))
            while not served.engine.bodies:
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            served.engine.delay_s = 0
        elif leave:
            stream = await gateway.chat(gateway.asked(caller, body, {}))
            events = stream.events()
            await anext(events)
            await events.aclose()
            stream.end()
            await asyncio.gather(*gateway._answering.background)
        else:
            await shop.client.post("/v1/chat/completions", json=body, headers=headers)
        return await shop.client.post("/v1/chat/completions", json=body, headers=headers)

    assert run(served, use).status_code == 429
