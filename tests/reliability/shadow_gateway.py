"""A gateway process under uvicorn whose candidates all misbehave. Prints its port. Run: HOME CANDIDATE..."""

import socket
import sys

import uvicorn

from flywheel.capture.outbox import Outbox, outbox_folder
from flywheel.config import FlywheelConfig, load
from flywheel.gateway.api import build_app
from flywheel.gateway.auth import ApiKeys
from flywheel.gateway.service import Gateway
from flywheel.rollout import routing
from flywheel.rollout.routing import Shadow, Variant
from flywheel.testing import MemoryStore
from flywheel.testing_faults import FaultyEngines


def main(home: str, *candidates: str) -> None:
    settings = {"home": home, "gateway.shadow_timeout_s": 0.5, "gateway.routing_poll_s": 0.1}
    config = load(FlywheelConfig, None, settings)
    store = MemoryStore()
    state = routing.bootstrap("triage", Variant(version="live", folder="/live"), actor="test")
    routing.publish(store, state)
    for name in candidates:
        state = routing.with_shadow(state, Shadow(version=name, folder="/x"), actor="test", reason="test")
        routing.publish(store, state)
    outbox = Outbox.open(outbox_folder(config), group_commit_ms=2)
    gateway = Gateway(config, store=store, engines=FaultyEngines(), outbox=outbox, feedback_key=b"k", keys=ApiKeys([]))
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(build_app(gateway), log_level="error")).run(sockets=[listener])


main(*sys.argv[1:])
