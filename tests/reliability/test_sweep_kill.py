"""A sweep that is killed or interrupted goes on behind its finished trials, and finds what an undisturbed one finds."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import small_sweep

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("FLYWHEEL_LONG"), reason="starts Ray six times: make reliability"),
]
WORKER = Path(__file__).with_name("sweep_worker.py")
PATIENCE_S = 180


def start(home: Path, log: Path, seconds: float) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(WORKER), str(home), str(log), str(seconds)]
    return subprocess.Popen(command, env=environment, start_new_session=True)


def records(home: Path) -> set[int]:
    return {int(path.stem.removeprefix("trial-")) for path in home.glob("lake/sweeps/f/*/trial-*.json")}


def begun(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def stop_at(process: subprocess.Popen, home: Path, wanted: int, how: signal.Signals) -> None:
    """Send the signal once so many trials are finished."""
    deadline = time.monotonic() + PATIENCE_S
    while len(records(home)) < wanted and process.poll() is None:
        assert time.monotonic() < deadline, "the sweep did not get there"
        time.sleep(0.05)
    process.send_signal(how)
    process.wait(PATIENCE_S)
    if how == signal.SIGKILL:  # the cluster of a killed driver ends by itself, after a while; not in a test's time
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_no_finished_trial_runs_again_and_the_winner_is_the_same(tmp_path):
    calm = tmp_path / "calm"
    assert start(calm, tmp_path / "calm.log", 0).wait(PATIENCE_S) == 0
    everyone = set(range(small_sweep.SWEEP.trials))
    assert sorted(begun(tmp_path / "calm.log")) == sorted(everyone)

    home, finished = tmp_path / "home", set[int]()
    for turn, (wanted, how) in enumerate([(1, signal.SIGKILL), (3, signal.SIGINT), (4, signal.SIGKILL)]):
        log = tmp_path / f"{turn}.log"
        process = start(home, log, 1.5)
        stop_at(process, home, wanted, how)
        assert process.returncode != 0, "it ended before it was stopped"
        assert not finished & set(begun(log))
        assert records(home) >= finished
        finished = records(home)
        assert finished < everyone
    log = tmp_path / "last.log"
    assert start(home, log, 0).wait(PATIENCE_S) == 0
    assert set(begun(log)) == everyone - finished
    assert (home / "filter.yaml").read_text() == (calm / "filter.yaml").read_text()
    assert (home / "filter.svg").read_bytes() == (calm / "filter.svg").read_bytes()
