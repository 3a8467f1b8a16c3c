"""Processes that stand for machines race for one lease: of all that start at once one works at a time, and a dead
one's place is free, in its own home at once and elsewhere after the expiry."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flywheel.errors import LeaseHeldError
from flywheel.lake.lease import Lease
from flywheel.lake.store import ObjectStore

RACER = """
import json, sys, time
from flywheel.config import FlywheelConfig, load
from flywheel.errors import LeaseHeldError
from flywheel.lake.tables import open_lake
from flywheel.workflow.turns.lease import only_one

config = load(FlywheelConfig, overrides=json.loads(sys.argv[1]))
store, me, rounds = open_lake(config).store, sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
worked = []
while len(worked) < rounds:
    try:
        with only_one(config, "turn") as held:
            mine = f"inside/{me}"
            store.put(mine, b"")
            assert store.list("inside") == [mine], store.list("inside")
            time.sleep(0.02)
            held.check()
            store.delete([mine])
            worked.append(held.holder.n)
    except LeaseHeldError:
        time.sleep(0.01)
print(json.dumps(worked))
"""

HOLDER = """
import json, sys, time
from flywheel.config import FlywheelConfig, load
from flywheel.workflow.turns.lease import only_one

with only_one(load(FlywheelConfig, overrides=json.loads(sys.argv[1])), "turn"):
    print("holding", flush=True)
    time.sleep(600)
"""


def settings(tmp_path: Path, home: str, uri: str, options: dict[str, str]) -> str:
    return json.dumps({"home": str(tmp_path / home), "lake.uri": uri, "lake.storage_options": options})


def race(tmp_path: Path, uri: str, options: dict[str, str], homes: list[str], rounds: int) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, settings(tmp_path, home, uri, options), f"racer-{number}", str(rounds)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ),
        )
        for number, home in enumerate(homes)
    ]  # fmt: skip
    for racer in racers:
        assert racer.stdout.readline() == "ready\n", racer.stderr.read()
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    answers = [racer.communicate(timeout=200) for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * len(racers), [err[-2000:] for _, err in answers]
    numbers = sorted(number for out, _ in answers for number in json.loads(out))
    assert numbers == list(range(1, rounds * len(homes) + 1))


@pytest.mark.slow
def test_machines_and_processes_of_one_machine_on_a_folder(tmp_path: Path):
    race(tmp_path, str(tmp_path / "lake"), {}, ["one", "one", "two"], rounds=6)


@pytest.mark.slow
@pytest.mark.s3
def test_machines_on_s3(tmp_path: Path, s3_environment):
    race(tmp_path, s3_environment.new_lake_uri(), s3_environment.options, ["one", "two", "three"], rounds=3)


@pytest.mark.slow
def test_a_killed_holder_is_followed_at_once_in_its_home_and_elsewhere_after_its_expiry(tmp_path: Path):
    uri = str(tmp_path / "lake")
    lease = Lease(ObjectStore(uri), "triage/turn")
    command = [sys.executable, "-c", HOLDER, settings(tmp_path, "one", uri, {})]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "holding\n"
        with pytest.raises(LeaseHeldError, match=rf"process {holder.pid}\)"):
            lease.take("elsewhere")
        holder.send_signal(signal.SIGKILL)
    with pytest.raises(LeaseHeldError):
        lease.take("elsewhere")
    begun = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as again:
        assert again.stdout.readline() == "holding\n"
        assert time.monotonic() - begun < 30  # far below the expiry
        again.send_signal(signal.SIGKILL)
    last = lease.current()
    assert last.n == 2
    lease.expiry_s = -1.0
    lease.write_beat(last)  # as if the expiry had passed
    assert lease.take("elsewhere").holder.n == 3
