"""The processes that ``test_gateway_kill`` kills: ``replica CONFIG PORT``, ``shipper CONFIG``, ``ingester CONFIG``."""

import asyncio
import contextlib
import sys
import time
from pathlib import Path

from flywheel.config import FlywheelConfig, load


def replica(config: FlywheelConfig, port: int) -> None:
    """The gateway as it is, over an engine in this process."""
    import uvicorn

    from flywheel.capture.recorder import open_recorder
    from flywheel.gateway.api import build_app
    from flywheel.gateway.auth import ApiKeys
    from flywheel.gateway.service import Gateway
    from flywheel.lake.keys import Keyring
    from flywheel.lake.store import ObjectStore
    from flywheel.testing import FakeEngine, LocalEngines

    gateway = Gateway(
        config,
        store=ObjectStore(config.lake_uri()),
        engines=LocalEngines(FakeEngine("v1", delay_s=0.002)),
        outbox=open_recorder(config),
        feedback_key=Keyring(config.home_path()).feedback_key(),
        keys=ApiKeys([]),
    )
    server = uvicorn.Server(uvicorn.Config(build_app(gateway), host="127.0.0.1", port=port, log_level="error"))
    asyncio.run(server.serve())


def shipper(config: FlywheelConfig) -> None:
    """Ship for ever."""
    from flywheel.capture.outbox import outbox_folder
    from flywheel.capture.ship import ship_once
    from flywheel.errors import BusyError
    from flywheel.lake.keys import Keyring
    from flywheel.lake.tables import open_lake

    lake, keyring = open_lake(config), Keyring(config.home_path())
    while True:
        with contextlib.suppress(BusyError):
            ship_once(outbox_folder(config), lake.store, config.capture, keyring, wait_s=1)
        time.sleep(0.2)


def ingester(config: FlywheelConfig) -> None:
    """Ingest for ever."""
    from flywheel.capture.ingest import Ingester
    from flywheel.lake.keys import Keyring
    from flywheel.lake.tables import open_lake

    worker = Ingester(open_lake(config), config, Keyring(config.home_path()))
    while True:
        worker.run_once()
        time.sleep(0.2)


if __name__ == "__main__":
    what, path, *more = sys.argv[1:]
    settings = load(FlywheelConfig, Path(path))
    {"replica": replica, "shipper": shipper, "ingester": ingester}[what](settings, *map(int, more))
