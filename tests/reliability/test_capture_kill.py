"""Promise 1 under SIGKILL: every acknowledged event is in the lake exactly once."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from flywheel.capture.ingest import ingest_all, read_totals
from flywheel.capture.outbox import outbox_folder
from flywheel.capture.ship import ship_once
from flywheel.config import FlywheelConfig
from flywheel.lake.keys import Keyring
from flywheel.lake.tables import open_lake
from flywheel.records import Inference

WORKER = Path(__file__).with_name("capture_worker.py")
LIVES = int(os.environ.get("FLYWHEEL_KILLS", "4"))


def live_and_die(home: Path, processes: int, seconds: float) -> list[str]:
    """Run workers side by side on one home, kill them all, return the lines that they had printed."""
    running = [
        subprocess.Popen([sys.executable, WORKER, home], stdout=subprocess.PIPE, text=True) for _ in range(processes)
    ]
    lines: list[str] = []
    readers = [threading.Thread(target=lambda p=process: lines.extend(p.stdout)) for process in running]
    for reader in readers:
        reader.start()
    deadline = time.monotonic() + 60
    while not any("reacted" in line for line in lines):
        assert time.monotonic() < deadline, "the workers recorded nothing"
        assert all(process.poll() is None for process in running), "a worker ended by itself"
        time.sleep(0.02)
    time.sleep(seconds)
    for process in running:
        assert process.poll() is None, "a worker ended by itself"
        process.send_signal(signal.SIGKILL)
        process.wait()
    for reader in readers:
        reader.join()
    return lines


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_acknowledged_events_survive_kills_exactly_once(tmp_path, processes):
    chance = random.Random(processes)
    said: dict[str, set[str]] = {"opened": set(), "answered": set(), "reacted": set()}
    for _ in range(LIVES):
        for line in live_and_die(tmp_path, processes, chance.uniform(0.3, 1.5)):
            what, which = line.split()
            said[what].add(which)
    config = FlywheelConfig(home=tmp_path)
    lake = open_lake(config)
    before = len(lake.read("inferences", columns=["inference_id"]))
    ship_once(outbox_folder(config), lake.store, config.capture, Keyring(tmp_path))
    report = ingest_all(lake, config, Keyring(tmp_path))
    assert report.quarantined == {}
    assert [path.name for path in outbox_folder(config).iterdir()] == ["shipper.lock"]

    rows = lake.records("inferences", Inference)
    times = Counter(row.inference_id for row in rows)
    assert {row_id: n for row_id, n in times.items() if n > 1} == {}
    assert said["opened"] - times.keys() == set()  # an opened request is a row too, answered or interrupted
    finished = {row.inference_id: row.finish_reason for row in rows}
    assert {finished[row_id] for row_id in said["answered"]} == {"stop"}
    assert set(finished.values()) <= {"stop", "interrupted"}
    reactions = Counter(lake.read("feedback", columns=["feedback_id"])["feedback_id"].to_pylist())
    assert {row_id: n for row_id, n in reactions.items() if n > 1} == {}
    assert said["reacted"] - reactions.keys() == set()
    assert before > 0, "nothing was ingested while the workers lived: the test proved nothing about ingestion"
    totals = read_totals(lake, "triage")
    assert sum(totals.rows.values()) == len(rows) + len(reactions)
    assert totals.events == sum(totals.rows.values()) + totals.duplicates
    assert len(said["answered"]) > 100
