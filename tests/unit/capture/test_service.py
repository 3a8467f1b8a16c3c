"""The loops of capture go on after failures, and say when they cannot."""

import threading
import time

import pytest

from flywheel.capture.service import IngesterLoop, Loop, ShipperLoop, flush
from flywheel.errors import CaptureError


def until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.005)


def test_a_loop_goes_on_after_failures():
    calls = []

    def cycle():
        calls.append(1)
        if len(calls) < 4:
            raise OSError("lake away")
        return False

    loop = Loop("test", cycle, 0.001)
    loop.start()
    until(lambda: len(calls) > 6)
    loop.check_health()
    assert loop.last_error is None
    loop.stop()


def test_work_is_followed_at_once():
    calls = []
    loop = Loop("test", lambda: calls.append(1) or len(calls) < 50, 60)
    loop.start()
    until(lambda: len(calls) == 50)
    loop.stop()
    assert len(calls) == 50


def test_a_loop_that_only_fails_becomes_ill():
    def cycle():
        raise OSError("lake away")

    loop = Loop("test", cycle, 0.001, max_silence_s=0.05)
    loop.start()
    until(lambda: loop.silence_s > 0.1)
    with pytest.raises(CaptureError, match=r"no progress .* lake away"):
        loop.check_health()
    loop.stop()


def test_a_loop_that_hangs_becomes_ill():
    release = threading.Event()
    loop = Loop("test", lambda: release.wait(30), 0.001, max_silence_s=0.05)
    loop.start()
    until(lambda: loop.silence_s > 0.1)
    with pytest.raises(CaptureError, match="no progress"):
        loop.check_health()
    release.set()
    loop.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_thread_is_noticed():
    def cycle():
        raise SystemExit

    loop = Loop("test", cycle, 0.001)
    loop.start()
    until(lambda: not loop._thread.is_alive())
    with pytest.raises(CaptureError, match="not running"):
        loop.check_health()


def test_a_loop_that_was_never_started_is_ill():
    with pytest.raises(CaptureError, match="not running"):
        Loop("test", lambda: False, 1).check_health()


def test_stopping_interrupts_the_pause_after_a_failure():
    def cycle():
        raise OSError

    loop = Loop("test", cycle, 20)
    loop.start()
    until(lambda: loop.last_error is not None)
    started = time.monotonic()
    loop.stop()
    assert time.monotonic() - started < 5
    loop.check_health()  # a stopped loop is not ill


def test_the_loops_bring_an_event_into_the_lake(new_pipeline, make):
    pipeline = new_pipeline(seal_interval_s=0.02, ingest_interval_s=0.02)
    outbox = pipeline.record(make.inference(), close=False)
    loops = [
        ShipperLoop(pipeline.folder, pipeline.lake.store, pipeline.config.capture, pipeline.keyring),
        IngesterLoop(pipeline.lake, pipeline.config, pipeline.keyring),
    ]
    for loop in loops:
        loop.start()
    until(lambda: len(pipeline.inferences()) == 1)
    for loop in loops:
        loop.check_health()
        loop.stop()
    outbox.close()


def test_flush_brings_everything_at_once(pipeline, make):
    outbox = pipeline.record(make.inference(), close=False)
    shipped, ingested = flush(pipeline.lake, pipeline.config, pipeline.keyring)
    assert (shipped.events, ingested.rows) == (1, {"inferences": 1})
    outbox.close()
