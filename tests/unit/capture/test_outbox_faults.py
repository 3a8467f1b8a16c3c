"""No acknowledgement precedes the sync: the log's own sync and write fail or wait under a real outbox."""

import asyncio
import sqlite3
import threading
from contextlib import closing

import pytest
from sync_faults import SQLITE_FULL, SQLITE_IOERR_FSYNC, SQLITE_IOERR_WRITE, SQLITE_OK, SQLITE_READONLY, LogFaults

from flywheel.capture.outbox import Outbox
from flywheel.errors import CaptureError


@pytest.fixture
def outbox(pipeline):
    made = Outbox.open(pipeline.folder, group_commit_ms=0)
    yield made
    made.close()


@pytest.fixture
def log(outbox, pipeline, make):
    asyncio.run(outbox.append([pipeline.event(make.inference())]))  # the log exists from the first write on
    faults = LogFaults(outbox._connection)
    yield faults
    faults.remove()


def stored(pipeline, outbox):
    with closing(sqlite3.connect(pipeline.folder / f"{outbox.outbox_id}.db")) as other:
        return [name for (name,) in other.execute("select event_id from events")]


def test_nobody_is_answered_before_the_sync_returned(outbox, log, pipeline, make):
    reached, go = threading.Event(), threading.Event()

    def wait():
        reached.set()
        go.wait(30)
        return SQLITE_OK

    async def run():
        log.sync = wait
        row = make.inference()
        calls = [outbox.append([pipeline.event(make.inference())]), outbox.open_request(row), outbox.complete(row)]
        waiting = [asyncio.ensure_future(call) for call in calls]
        assert await asyncio.to_thread(reached.wait, 30)
        await asyncio.sleep(0.05)
        early = [task.done() for task in waiting]
        go.set()
        await asyncio.gather(*waiting)
        return early

    assert asyncio.run(run()) == [False] * 3
    assert log.syncs >= 1


@pytest.mark.parametrize("code", [SQLITE_IOERR_FSYNC, SQLITE_FULL, SQLITE_READONLY])
@pytest.mark.parametrize("what", ["append", "open_request", "complete"])
def test_a_failed_sync_acknowledges_nothing(outbox, log, pipeline, make, code, what):
    log.sync = lambda: code
    row = make.inference()
    call = outbox.append([pipeline.event(row)]) if what == "append" else getattr(outbox, what)(row)
    with pytest.raises(CaptureError, match="not acknowledged"):
        asyncio.run(call)


@pytest.mark.parametrize("code", [SQLITE_IOERR_WRITE, SQLITE_FULL])
def test_a_failed_write_refuses_new_requests_until_a_synced_write_succeeds(outbox, log, pipeline, make, code):
    log.write = lambda: code
    with pytest.raises(CaptureError):
        asyncio.run(outbox.append([pipeline.event(make.inference())]))
    until(outbox.refusal)
    assert (outbox.refusal().reason, outbox.refusal().status) == ("disk_error", 503)
    log.write = lambda: SQLITE_OK
    until(lambda: not outbox.refusal())
    row = make.inference()
    asyncio.run(outbox.append([pipeline.event(row)]))
    assert stored(pipeline, outbox)[-1] == row.inference_id


def test_after_a_failed_sync_what_is_acknowledged_later_survives_a_crash(outbox, log, pipeline, make):
    """The failed transaction's pages are written again, so nothing acknowledged rests on them."""
    log.sync = lambda: SQLITE_IOERR_FSYNC
    with pytest.raises(CaptureError):
        asyncio.run(outbox.append([pipeline.event(make.inference("x" * 50_000))]))
    log.sync = lambda: SQLITE_OK
    row = make.inference()
    asyncio.run(outbox.append([pipeline.event(row)]))
    copy = pipeline.folder / "copy.db"
    for suffix in ("", "-wal"):  # what a crash leaves: no orderly close, no write-back
        source = pipeline.folder / f"{outbox.outbox_id}.db{suffix}"
        copy.with_name(copy.name + suffix).write_bytes(source.read_bytes())
    with closing(sqlite3.connect(copy)) as crashed:
        names = [name for (name,) in crashed.execute("select event_id from events")]
    assert names[-1] == row.inference_id
    assert len(names) == 2


def until(condition, seconds=10):
    done = threading.Event()
    for _ in range(int(seconds / 0.01)):
        if condition():
            return
        done.wait(0.01)
    raise AssertionError("it did not happen")
