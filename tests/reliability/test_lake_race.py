"""Two processes write the same batches to one table, each batch twice: every row is there exactly once."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from flywheel.lake.tables import Lake
from flywheel.records import Signal

LONG = 200 if os.environ.get("FLYWHEEL_LONG") else 0
"""Batches of each writer under `make reliability`."""

WRITER = """
import json, sys
from flywheel.lake.tables import Lake
from flywheel.records import Signal

uri, options, me, batches = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3], int(sys.argv[4])
lake = Lake(uri, options)
sys.stdin.readline()  # both start at once
won = []
for n in range(batches):
    rows = [Signal(inference_id=f"{n}-{row}", signal="race", version="1", value=float(n)) for row in range(3)]
    for _ in range(2):
        if lake.append("signals", rows, app="race", version=n):
            won.append(n)
    own = Signal(inference_id=f"{me}-{n}", signal="own", version="1", value=float(n))
    assert lake.append("signals", [own], app=f"own/{me}", version=n)  # another app never stands in the way
    print(n, file=sys.stderr, flush=True)
print(json.dumps(won))
"""


def race(uri: str, options: dict[str, str], batches: int, environment: dict[str, str] | None = None) -> None:
    """Run the race on a table that does not exist yet, then count."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, uri, json.dumps(options), me, str(batches)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **(environment or {})},
        )
        for me in ("a", "b")
    ]  # fmt: skip
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    answers = [writer.communicate(timeout=1_000) for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], [err[-2000:] for _, err in answers]
    won = [json.loads(out) for out, _ in answers]
    lake = Lake(uri, options)
    rows = lake.records("signals", Signal)
    wanted = Counter(
        [f"{n}-{row}" for n in range(batches) for row in range(3)]
        + [f"{me}-{n}" for me in "ab" for n in range(batches)]
    )
    assert Counter(row.inference_id for row in rows) == wanted
    assert sorted(won[0] + won[1]) == list(range(batches)), "every batch was won exactly once"
    assert lake.last_committed("signals", "race") == batches - 1


@pytest.mark.slow
def test_two_processes_on_a_folder(tmp_path: Path):
    race(str(tmp_path / "lake"), {}, batches=LONG or 40)


@pytest.mark.slow
@pytest.mark.s3
def test_two_processes_on_s3(s3_environment):
    race(s3_environment.new_lake_uri(), s3_environment.options, batches=LONG or 8)


@pytest.mark.slow
@pytest.mark.parametrize("kill_after", [3, 9])
def test_a_killed_writer_leaves_a_table_that_the_next_one_finishes(tmp_path: Path, kill_after: int):
    """SIGKILL in the middle of appends; the same call again brings exactly the missing rows."""
    uri, batches = str(tmp_path / "lake"), 15
    command = [sys.executable, "-c", WRITER, uri, "{}", "a", str(batches)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as writer:
        writer.stdin.write("go\n")
        writer.stdin.flush()
        for line in writer.stderr:
            if int(line) == kill_after:
                writer.kill()
                break
    assert writer.returncode == -9
    lake = Lake(uri)
    for n in range(batches):
        rows = [Signal(inference_id=f"{n}-{row}", signal="race", version="1", value=float(n)) for row in range(3)]
        lake.append("signals", rows, app="race", version=n)
    counts = Counter(row.inference_id for row in lake.records("signals", Signal) if row.signal == "race")
    assert counts == Counter(f"{n}-{row}" for n in range(batches) for row in range(3))
