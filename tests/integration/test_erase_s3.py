"""Forgetting a person in a lake on a real S3 server: no object holds anything of them afterwards."""

import asyncio
import io
import json

import pyarrow.parquet as pq
import pytest

from flywheel.capture.events import to_event
from flywheel.capture.importer import import_interactions
from flywheel.capture.ingest import ingest_all
from flywheel.capture.outbox import Outbox, outbox_folder
from flywheel.capture.ship import ship_once
from flywheel.config import FlywheelConfig, LakeConfig
from flywheel.lake.keys import Keyring
from flywheel.lake.tables import open_lake
from flywheel.records import Inference, Message, utcnow
from flywheel.workflow.erasure.erase import forget

from uuid6 import uuid7  # isort: skip

pytestmark = [pytest.mark.s3, pytest.mark.slow]


def inference(user: str) -> Inference:
    return Inference(
        inference_id=str(uuid7()), flow="triage", ts=utcnow(), subject=user, consent=["training"], model_version="m1",
        messages=[Message(role="user", content=f"words of {user}")], choices=["yes"],
    )  # fmt: skip


def objects(store) -> dict[str, bytes]:
    found = {}
    for key in store.list(""):
        data = store.get(key)
        if key.endswith(".parquet"):
            rows = pq.read_table(io.BytesIO(data), partitioning=None).to_pylist()
            data += json.dumps(rows, default=str).encode()
        found[key] = data
    return found


def test_no_object_holds_them_and_everybody_else_is_there(s3_environment, tmp_path):
    lake_config = LakeConfig(uri=s3_environment.new_lake_uri(), storage_options=s3_environment.options)
    config = FlywheelConfig(home=tmp_path / "home", lake=lake_config)
    lake, keyring = open_lake(config), Keyring(tmp_path / "home")
    line = {"flow": "triage", "ts": "2026-01-01T00:00:00Z", "response": "y", "consent": ["training"]}
    lines = [{**line, "user": user, "messages": [{"role": "user", "content": f"words of {user}"}]} for user in
             ("ann-id", "ben-id")]  # fmt: skip
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(item) + "\n" for item in lines))
    import_interactions(lake, config, keyring, tmp_path / "log.jsonl")
    for _ in range(3):
        outbox = Outbox.open(outbox_folder(config))
        asyncio.run(outbox.append([to_event(inference(user), flow="triage") for user in ("ann-id", "ben-id")]))
        outbox.close()
        ship_once(outbox_folder(config), lake.store, config.capture, keyring)
        ingest_all(lake, config, keyring)
    subject = keyring.pseudonym("default", "ann-id").encode()
    done = forget(config, "ann-id")
    assert {name: count for name, count in done.removed.items() if count} == {"landing": 3, "inferences": 4}
    left = objects(lake.store)
    assert not [key for key, data in left.items() if b"ann-id" in data]
    assert not [key for key, data in left.items() if subject in data and not key.startswith("erasures/")]
    assert len(lake.records("inferences", Inference)) == 4
    assert forget(config, "ann-id").again == done.until
