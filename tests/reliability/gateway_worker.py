"""The processes that ``test_gateway_kill`` kills: ``replica PORT``, ``shipper`` and ``ingester`` of one home."""

import asyncio
import contextlib
import sys
import time
from pathlib import Path

from flywheel.config import FlywheelConfig, load

VERSION = "v1"


def config_of(home: Path) -> FlywheelConfig:
    """Small segments and batches, so that kills meet every step of shipping and ingestion."""
    capture = {"capture.segment_rows": 60, "capture.batch_segments": 4, "capture.min_free_mb": 1}
    return load(FlywheelConfig, None, {"home": str(home), "gateway.routing_poll_s": 5, **capture})


def replica(home: Path, port: int) -> None:
    """The gateway as it is, over an engine in this process."""
    import uvicorn

    from flywheel.capture.recorder import open_recorder
    from flywheel.gateway.api import build_app
    from flywheel.gateway.auth import ApiKeys
    from flywheel.gateway.service import Gateway
    from flywheel.lake.keys import Keyring
    from flywheel.lake.store import ObjectStore
    from flywheel.testing import FakeEngine, LocalEngines

    config = config_of(home)
    gateway = Gateway(
        config,
        store=ObjectStore(config.lake_uri()),
        engines=LocalEngines(FakeEngine(VERSION, delay_s=0.002)),
        outbox=open_recorder(config),
        feedback_key=Keyring(home).feedback_key(),
        keys=ApiKeys([]),
    )
    server = uvicorn.Server(uvicorn.Config(build_app(gateway), host="127.0.0.1", port=port, log_level="error"))
    asyncio.run(server.serve())


def shipper(home: Path) -> None:
    """Ship for ever."""
    from flywheel.capture.outbox import outbox_folder
    from flywheel.capture.ship import ship_once
    from flywheel.errors import BusyError
    from flywheel.lake.keys import Keyring
    from flywheel.lake.tables import open_lake

    config = config_of(home)
    lake, keyring = open_lake(config), Keyring(home)
    while True:
        with contextlib.suppress(BusyError):
            ship_once(outbox_folder(config), lake.store, config.capture, keyring, wait_s=1)
        time.sleep(0.2)


def ingester(home: Path) -> None:
    """Ingest for ever."""
    from flywheel.capture.ingest import Ingester
    from flywheel.lake.keys import Keyring
    from flywheel.lake.tables import open_lake

    config = config_of(home)
    worker = Ingester(open_lake(config), config, Keyring(home))
    while True:
        worker.run_once()
        time.sleep(0.2)


if __name__ == "__main__":
    what, where, *more = sys.argv[1:]
    {"replica": replica, "shipper": shipper, "ingester": ingester}[what](Path(where), *map(int, more))
