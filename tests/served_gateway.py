"""The real gateway over a fake engine, on a loopback port of its own, without Ray."""

import json
import sqlite3
import threading
from contextlib import contextmanager

import uvicorn

from flywheel.capture.outbox import Outbox, outbox_folder
from flywheel.config import FlywheelConfig, load
from flywheel.gateway.api import build_app
from flywheel.gateway.auth import ApiKeys
from flywheel.gateway.keys import ApiKey, digest, new_id
from flywheel.gateway.service import Gateway
from flywheel.rollout import routing
from flywheel.testing import FakeEngine, LocalEngines, MemoryStore


class Served:
    """A gateway that answers at ``url``."""

    def __init__(self, config, url):
        self.config, self.url = config, url

    def rows(self, kind):
        """What its outbox holds, oldest first."""
        path = next(outbox_folder(self.config).glob("*.db"))
        with sqlite3.connect(path) as db:
            return [
                json.loads(body)
                for (body,) in db.execute("select body from events where kind = ? order by seq", [kind])
            ]


@contextmanager
def served_gateway(home, *, keys=()):
    config = load(FlywheelConfig, overrides={"home": str(home)})
    store = MemoryStore()
    routing.publish(store, routing.bootstrap("triage", routing.Variant(version="v1", folder="/v1"), actor="test"))
    outbox = Outbox.open(outbox_folder(config), group_commit_ms=0)
    engines = LocalEngines(FakeEngine("v1"))
    gateway = Gateway(
        config,
        store=store,
        engines=engines,
        outbox=outbox,
        feedback_key=b"k",
        keys=ApiKeys([_key(key) for key in keys]),
    )
    with running(build_app(gateway)) as address:
        yield Served(config, f"{address}/v1")


def _key(secret):
    return ApiKey(id=new_id(), name=secret, sha256=digest(secret), roles=["product"], flows=["triage"])


@contextmanager
def running(app):
    """Serve an ASGI application; its address."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            threading.Event().wait(0.05)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
