"""A gateway over fake engines and a real outbox, for tests of what clients see and what is recorded."""

from __future__ import annotations

import json
import sqlite3
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai

from flywheel.capture.outbox import Outbox, outbox_folder
from flywheel.config import FlywheelConfig, load
from flywheel.gateway.api import build_app
from flywheel.gateway.auth import ApiKeys
from flywheel.gateway.keys import KEY_ROLES, ApiKey, digest, new_id
from flywheel.gateway.service import Gateway
from flywheel.rollout import routing
from flywheel.rollout.routing import Shadow, Variant
from flywheel.testing import FakeEngine, LocalEngines, MemoryStore


def key_of(secret: str) -> ApiKey:
    """A key that may do everything."""
    return ApiKey(id=new_id(), name=secret, sha256=digest(secret), roles=list(KEY_ROLES), flows=["*"])


class World:
    """One replica: ``v1`` is live, ``v2`` its shadow."""

    def __init__(
        self, home: Path, overrides: dict[str, Any] | None = None, *, keys: tuple[str, ...] = (), engines: Any = None
    ) -> None:
        self.config = load(
            FlywheelConfig, None, {"home": str(home), "gateway.routing_poll_s": 0.05, **(overrides or {})}
        )
        self.engines = engines or LocalEngines(FakeEngine("v1"), FakeEngine("v2"))
        store = MemoryStore()
        state = routing.bootstrap("triage", Variant(version="v1", folder="/v1"), actor="test")
        routing.publish(store, state)
        routing.publish(store, routing.with_shadow(state, Shadow(version="v2", folder="/v2"), actor="t", reason="r"))
        self.outbox = Outbox.open(outbox_folder(self.config), group_commit_ms=0)
        self.gateway = Gateway(
            self.config,
            store=store,
            engines=self.engines,
            outbox=self.outbox,
            feedback_key=b"k",
            keys=ApiKeys([key_of(key) for key in keys]),
        )
        self.app = build_app(self.gateway)

    @asynccontextmanager
    async def http(self):
        """A plain client of the started gateway."""
        await self.gateway.start()
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
                yield client
        finally:
            await self.gateway.stop()

    @asynccontextmanager
    async def openai(self, **settings: Any):
        """OpenAI's own client of the started gateway."""
        async with self.http() as http:
            given = {"api_key": "none", "max_retries": 0, **settings}
            yield openai.AsyncOpenAI(base_url="http://gateway/v1", http_client=http, **given)

    def rows(self, kind: str = "inference") -> list[dict[str, Any]]:
        """Recorded events of one kind, in order."""
        path = next(outbox_folder(self.config).glob("*.db"))
        with sqlite3.connect(path) as db:
            found = db.execute("select body from events where kind = ? order by seq", (kind,)).fetchall()
        return [json.loads(body) for (body,) in found]
