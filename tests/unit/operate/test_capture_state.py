"""What status and down say about events that are not in the lake yet, or never will be."""

import asyncio

import pytest
from uuid6 import uuid7

from flywheel.capture.events import to_event
from flywheel.capture.losses import Losses
from flywheel.capture.outbox import Outbox, outbox_folder
from flywheel.config import FlywheelConfig
from flywheel.lake.keys import Keyring
from flywheel.operate.capture_state import capture_lines, capture_state, ship_rest
from flywheel.records import Inference, Message, utcnow


@pytest.fixture
def config(tmp_path):
    return FlywheelConfig(home=tmp_path)


def record(config):
    row = Inference(
        inference_id=str(uuid7()),
        flow="triage",
        ts=utcnow(),
        subject="ann",
        model_version="m1",
        messages=[Message(role="user", content="hello")],
    )
    outbox = Outbox.open(outbox_folder(config))
    asyncio.run(outbox.append([to_event(row, flow="triage")]))
    outbox.close()


def test_nothing_to_say_before_anything_ran(config):
    state = capture_state(config)
    assert state == {"mode": "durable", "unshipped": 0, "lost": {}, "corrupt": []}
    assert capture_lines(state) == []


def test_what_waits_is_said_and_shipped_at_the_end(config):
    record(config)
    assert capture_lines(capture_state(config)) == ["1 events wait on this machine for the lake"]
    assert ship_rest(config) == {"unshipped": 0, "why": None}
    assert capture_state(config)["unshipped"] == 0


def test_a_lake_that_takes_nothing_is_named(config):
    record(config)
    Keyring(config.home_path())
    (config.home_path() / "lake").mkdir(exist_ok=True)
    (config.home_path() / "lake" / "landing").write_text("in the way")
    rest = ship_rest(config)
    assert rest["unshipped"] == 1
    assert rest["why"]


def test_losses_and_damage_are_shown(config):
    folder = outbox_folder(config)
    (folder / "corrupt").mkdir(parents=True)
    (folder / "corrupt" / "x.db").touch()
    losses = Losses(folder)
    losses.add("triage", "queue_full", 3)
    losses.add("triage", "queue_full", 2)
    losses.add("other", "not_stored", 9)
    losses.begin(str(uuid7()))
    losses.save()
    state = capture_state(config)
    assert state["lost"] == {"queue_full": 5, "died": 1}
    told = "\n".join(capture_lines(state))
    assert "queue_full 5" in told
    assert "unknown number" in told
    assert "x.db" in told


def test_a_count_that_cannot_be_written_is_kept(config):
    folder = outbox_folder(config)
    losses = Losses(folder)
    losses.add("triage", "queue_full", 3)
    losses.save()  # the folder is not there yet
    folder.mkdir(parents=True)
    losses.save()
    assert capture_state(config)["lost"] == {"queue_full": 3}
