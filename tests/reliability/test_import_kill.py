"""Imports that are killed, repeated and run side by side: every row is in the lake exactly once."""

import gzip
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flywheel.capture.importer import import_interactions
from flywheel.config import FlywheelConfig
from flywheel.lake.keys import Keyring
from flywheel.lake.tables import open_lake
from flywheel.records import Feedback, Inference

WORKER = Path(__file__).with_name("import_worker.py")
LIVES = 12 if os.environ.get("FLYWHEEL_LONG") else 3
ROWS = 300


def line(n: int) -> str:
    dated = {"ts": f"2025-05-0{1 + n % 3}T10:00:00Z"} if n % 2 else {}
    row = {
        "flow": "triage", "user": f"u{n % 7}", "messages": [{"role": "user", "content": f"question {n}"}],
        "response": f"answer {n}", "model": f"m{n}", "consent": ["training"],
        "feedback": [{"kind": "thumbs", "value": 1}, {"kind": "correction", "text": f"right {n}"}],
    }  # fmt: skip
    return json.dumps({**row, **dated}) + "\n"


def write(folder: Path) -> None:
    """Three files that share rows, and a bad line in each."""
    folder.mkdir()
    for name, numbers in {"a": range(200), "b": range(100, ROWS), "c": range(0, ROWS, 3)}.items():
        body = "".join(line(n) for n in numbers) + "not json\n"
        if name == "b":
            (folder / "b.jsonl.gz").write_bytes(gzip.compress(body.encode()))
        else:
            (folder / f"{name}.jsonl").write_text(body)


def start(home: Path, source: Path) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, WORKER, home, source], stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_killed_and_racing_imports_store_each_row_once(tmp_path):
    chance, home, source = random.Random(7), tmp_path / "home", tmp_path / "logs"
    write(source)
    killed = 0
    for _ in range(LIVES):
        pair = [start(home, source) for _ in range(2)]
        for process in pair:
            assert process.stdout.readline() == "started\n"
        time.sleep(chance.uniform(0.05, 0.6))
        for process in pair:
            killed += process.poll() is None
            process.kill()
            process.wait()
    assert killed, "every import was done before it was killed"
    last = [start(home, source) for _ in range(2)]
    said = [process.communicate(timeout=120)[0].split()[-2:] for process in last]
    assert [process.returncode for process in last] == [0, 0], said

    config = FlywheelConfig(home=home)
    lake = open_lake(config)
    rows = lake.records("inferences", Inference)
    reactions = lake.records("feedback", Feedback)
    assert sorted(row.model_version for row in rows) == sorted(f"m{n}" for n in range(ROWS))
    assert len({row.inference_id for row in rows}) == ROWS
    assert len(reactions) == len({row.feedback_id for row in reactions}) == 2 * ROWS
    assert {row.inference_id for row in reactions} == {row.inference_id for row in rows}
    report = import_interactions(lake, config, Keyring(home), source)
    assert (report.lines, report.rejected, report.inferences, report.feedback) == (503, 3, 0, 0)
    assert report.duplicates == 3 * 500
