"""Capture against a real S3 server: listings behind a key, contiguous segments, exactly-once batches."""

import asyncio

import pytest
from uuid6 import uuid7

from flywheel.capture.events import to_event
from flywheel.capture.ingest import Ingester, ingest_all
from flywheel.capture.outbox import Outbox, outbox_folder
from flywheel.capture.ship import ship_once
from flywheel.config import CaptureConfig, FlywheelConfig, LakeConfig
from flywheel.lake.keys import Keyring
from flywheel.lake.tables import open_lake
from flywheel.records import Inference, Message, utcnow


def inference() -> Inference:
    return Inference(
        inference_id=str(uuid7()),
        flow="triage",
        ts=utcnow(),
        subject="ann",
        consent=["training"],
        model_version="m1",
        messages=[Message(role="user", content="hello")],
    )


@pytest.mark.s3
@pytest.mark.slow
def test_events_reach_tables_on_s3_once(tmp_path, s3_environment):
    lake_config = LakeConfig(uri=s3_environment.new_lake_uri(), storage_options=s3_environment.options)
    config = FlywheelConfig(home=tmp_path, lake=lake_config, capture=CaptureConfig(segment_rows=2, batch_segments=2))
    lake, keyring = open_lake(config), Keyring(tmp_path)
    rows = [inference() for _ in range(7)]
    ingester = Ingester(lake, config, keyring)
    for part in (rows[:4], rows[4:]):
        outbox = Outbox.open(outbox_folder(config))
        asyncio.run(outbox.append([to_event(row, flow="triage") for row in part]))
        outbox.close()
        ship_once(outbox_folder(config), lake.store, config.capture, keyring)
        ingester.run_once()
    ingest_all(lake, config, keyring)
    assert sorted(lake.read("inferences")["inference_id"].to_pylist()) == sorted(row.inference_id for row in rows)
    assert len(lake.store.folders("landing/triage")) == 2
    assert ingest_all(lake, config, keyring).batches == 0
    short = config.model_copy(update={"capture": CaptureConfig(landing_retention_h=1e-9)})
    assert ingest_all(lake, short, keyring).cleaned == 4
    assert {key.rsplit("/", 1)[-1] for key in lake.store.list("landing")} == {"closed"}
