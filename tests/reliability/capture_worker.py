"""A process that records events, prints each id once it is acknowledged, and ships and ingests meanwhile."""

import asyncio
import contextlib
import sys
import threading
from pathlib import Path

from uuid6 import uuid7

from flywheel.capture.events import to_event
from flywheel.capture.ingest import Ingester
from flywheel.capture.outbox import Outbox, outbox_folder
from flywheel.capture.ship import ship_once
from flywheel.config import CaptureConfig, FlywheelConfig
from flywheel.errors import BusyError
from flywheel.lake.keys import Keyring
from flywheel.lake.tables import open_lake
from flywheel.records import Feedback, Inference, Message, feedback_id, utcnow

CAPTURE = CaptureConfig(segment_rows=40, batch_segments=3)


def new_inference() -> Inference:
    return Inference(
        inference_id=str(uuid7()),
        flow="triage",
        ts=utcnow(),
        subject="ann",
        session_id="s1",
        consent=["training"],
        model_version="m1",
        messages=[Message(role="user", content="mail ann@corp.io")],
    )


async def client(outbox: Outbox) -> None:
    """One caller: a request, its answer, a reaction; prints what was acknowledged."""
    while True:
        row = new_inference()
        await outbox.open_request(row)
        say("opened", row.inference_id)
        await outbox.complete(row.model_copy(update={"choices": ["yes"], "finish_reason": "stop"}))
        say("answered", row.inference_id)
        told = Feedback(
            feedback_id=feedback_id("default", row.inference_id, "k"),
            inference_id=row.inference_id,
            flow="triage",
            ts=utcnow(),
            subject="",
            kind="thumbs",
            value=1,
        )
        await outbox.append([to_event(told, flow="triage")])
        say("reacted", told.feedback_id)
        await asyncio.sleep(0.01)


def say(what: str, which: str) -> None:
    sys.stdout.write(f"{what} {which}\n")
    sys.stdout.flush()


def pump(config: FlywheelConfig) -> None:
    """Ship and ingest for ever."""
    lake, keyring = open_lake(config), Keyring(config.home_path())
    ingester = Ingester(lake, config, keyring)
    while True:
        with contextlib.suppress(BusyError):
            ship_once(outbox_folder(config), lake.store, config.capture, keyring, wait_s=0.1)
        ingester.run_once()


async def main(home: Path) -> None:
    config = FlywheelConfig(home=home, capture=CAPTURE)
    outbox = Outbox.open(outbox_folder(config))
    threading.Thread(target=pump, args=(config,), daemon=True).start()
    await asyncio.gather(*(client(outbox) for _ in range(8)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
