import os
import signal
import subprocess
import sys
import time

import pytest

from flywheel.errors import UsageError
from flywheel.operate.scheduler import parse_duration, run_every

SCHEDULER = """
import sys
from flywheel.operate.scheduler import run_every
run_every([sys.executable, "-c", sys.argv[1]], float(sys.argv[2]), say=lambda text: print(text, flush=True))
"""


def start(code, seconds, *arguments):
    command = [sys.executable, "-c", SCHEDULER, code, str(seconds), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})


def lines(process, count):
    return [process.stdout.readline().strip() for _ in range(count)]


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("15m", 900), ("1h", 3600), ("2d", 172_800), ("1.5h", 5400)]
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "h", "0s", "-1h", "1 hour", "1w"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(UsageError, match="30s, 15m, 1h or 2d"):
        parse_duration(text)


def test_it_runs_again_and_again_until_it_is_told_to_stop_between_two_runs():
    with start("print('ran')", 0.05) as scheduler:
        assert lines(scheduler, 3) == ["ran"] * 3
        scheduler.send_signal(signal.SIGTERM)
        assert scheduler.communicate(timeout=20)[0].splitlines()[-1] == "stopped"
    assert scheduler.returncode == 0


def test_the_child_prints_where_it_is_told_to(tmp_path):
    with (tmp_path / "out").open("w") as out:
        code = "import os, signal; print('ran'); os.kill(os.getppid(), signal.SIGTERM)"
        run_every([sys.executable, "-c", code], 60, say=lambda _: None, stdout=out)
    assert (tmp_path / "out").read_text() == "ran\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_under_way_is_waited_for(number):
    with start("import time; print('begun'); time.sleep(1.5); print('ended')", 60) as scheduler:
        assert lines(scheduler, 1) == ["begun"]
        scheduler.send_signal(number)
        assert scheduler.communicate(timeout=20)[0].split() == ["ended", "stopped"]
    assert scheduler.returncode == 0


def test_the_second_signal_ends_the_run_too():
    with start("import time; print('begun'); time.sleep(300)", 60) as scheduler:
        assert lines(scheduler, 1) == ["begun"]
        scheduler.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        scheduler.send_signal(signal.SIGTERM)
        said = scheduler.communicate(timeout=20)[0]
    assert "the run ended with code -15" in said
    assert said.endswith("stopped\n")


def test_after_failures_the_pause_grows():
    with start("raise SystemExit(1)", 0.2) as scheduler:
        said = lines(scheduler, 5)
        scheduler.send_signal(signal.SIGTERM)
        scheduler.communicate(timeout=20)
    pauses = [float(line.split()[-2]) for line in said]
    assert pauses == pytest.approx([0.4, 0.8, 1.6, 1.6, 1.6], abs=0.5)
    assert all(line.startswith("the run ended with code 1") for line in said)
