"""The outbox acknowledges what is on the disk, and nothing else."""

import asyncio
import sqlite3
import time
from contextlib import closing

import pytest

from flywheel.capture.outbox import Outbox, connect, try_lock
from flywheel.errors import CaptureError


def rows(pipeline, outbox, table="events", columns="event_id, body"):
    """What another process would see now."""
    with closing(sqlite3.connect(pipeline.folder / f"{outbox.outbox_id}.db")) as other:
        return other.execute(f"select {columns} from {table}").fetchall()


def test_an_acknowledged_event_is_committed(pipeline, make):
    row = make.inference()
    outbox = pipeline.record(row, close=False)
    assert rows(pipeline, outbox) == [(row.inference_id, row.model_dump_json())]
    outbox.close()


def test_every_commit_is_synced(pipeline):
    outbox = Outbox.open(pipeline.folder)
    assert outbox._connection.execute("pragma synchronous").fetchone()[0] == 2  # FULL
    assert outbox._connection.execute("pragma journal_mode").fetchone()[0] == "wal"
    outbox.close()


def test_many_callers_share_a_sync(pipeline, make):
    outbox = Outbox.open(pipeline.folder, group_commit_ms=5)
    commits = []
    real = outbox._transaction
    outbox._transaction = lambda jobs: (commits.append(len(jobs)), real(jobs))[1]

    async def run():
        await asyncio.gather(*(outbox.append([pipeline.event(make.inference())]) for _ in range(300)))

    asyncio.run(run())
    outbox.close()
    assert sum(commits) == 300
    assert len(commits) < 30
    with closing(connect(pipeline.folder / f"{outbox.outbox_id}.db")) as connection:
        assert connection.execute("select count(*) from events").fetchone()[0] == 300


def test_a_request_is_there_before_its_answer_and_once_after(pipeline, make):
    row = make.inference(choices=[], finish_reason=None)
    outbox = Outbox.open(pipeline.folder)
    asyncio.run(outbox.open_request(row))
    assert rows(pipeline, outbox, "open_requests", "inference_id") == [(row.inference_id,)]
    asyncio.run(outbox.complete(row.model_copy(update={"choices": ["yes"], "finish_reason": "stop"})))
    assert rows(pipeline, outbox, "open_requests", "inference_id") == []
    assert [name for name, _ in rows(pipeline, outbox)] == [row.inference_id]
    outbox.close()


def test_a_full_disk_acknowledges_nothing_and_recovers(pipeline, make):
    outbox = Outbox.open(pipeline.folder)
    pages = outbox._connection.execute("pragma page_count").fetchone()[0]
    outbox._connection.execute(f"pragma max_page_count = {pages + 2}")
    big = make.inference("x" * 100_000)

    async def both():
        return await asyncio.gather(
            outbox.append([pipeline.event(big)]), outbox.append([pipeline.event(big)]), return_exceptions=True
        )

    for outcome in asyncio.run(both()):
        assert isinstance(outcome, CaptureError)
        assert "disk" in str(outcome)
    assert rows(pipeline, outbox) == []
    outbox._connection.execute("pragma max_page_count = 1000000")
    asyncio.run(outbox.append([pipeline.event(big)]))
    assert len(rows(pipeline, outbox)) == 1
    outbox.close()


def test_one_bad_row_does_not_fail_the_others(pipeline, make):
    outbox = Outbox.open(pipeline.folder, group_commit_ms=20)
    bad = pipeline.event(make.inference()).model_copy(update={"body": "\ud800"})
    good = pipeline.event(make.inference())

    async def both():
        return await asyncio.gather(outbox.append([bad]), outbox.append([good]), return_exceptions=True)

    first, second = asyncio.run(both())
    assert isinstance(first, CaptureError)
    assert second is None
    assert [name for name, _ in rows(pipeline, outbox)] == [good.event_id]
    outbox.close()


def test_a_cancelled_caller_disturbs_nobody(pipeline, make):
    outbox = Outbox.open(pipeline.folder, group_commit_ms=30)

    async def run():
        waiting = asyncio.ensure_future(outbox.append([pipeline.event(make.inference())]))
        await asyncio.sleep(0.005)
        waiting.cancel()
        await outbox.append([pipeline.event(make.inference())])

    asyncio.run(run())
    outbox.close()


def test_after_close_nothing_is_accepted(pipeline, make):
    outbox = pipeline.record(make.inference())
    with pytest.raises(CaptureError, match="closed"):
        asyncio.run(outbox.append([pipeline.event(make.inference())]))


def test_close_writes_what_was_submitted(pipeline, make):
    outbox = Outbox.open(pipeline.folder, group_commit_ms=50)

    async def run():
        waiting = asyncio.ensure_future(outbox.append([pipeline.event(make.inference())]))
        await asyncio.sleep(0.005)
        await asyncio.to_thread(outbox.close)
        await waiting

    asyncio.run(run())
    assert len(rows(pipeline, outbox)) == 1


def test_the_lock_lives_as_long_as_the_outbox(pipeline, make):
    outbox = pipeline.record(make.inference(), close=False)
    lock = pipeline.folder / f"{outbox.outbox_id}.lock"
    assert try_lock(lock) is None
    outbox.close()
    assert try_lock(lock) is not None
    assert try_lock(pipeline.folder / "never.lock") is None
    assert not (pipeline.folder / "never.lock").exists()


def test_text_that_is_not_unicode_is_refused_before_the_log(make, pipeline):
    with pytest.raises((CaptureError, ValueError)):
        pipeline.event(make.inference("\ud800"))


def test_an_unusable_folder_says_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CaptureError, match="check space and rights"):
        Outbox.open(tmp_path / "file")


def test_a_lone_write_waits_little(pipeline, make):
    outbox = Outbox.open(pipeline.folder, group_commit_ms=2)
    event = pipeline.event(make.inference())
    asyncio.run(outbox.append([event]))
    best = 1.0
    for _ in range(10):
        started = time.perf_counter()
        asyncio.run(outbox.append([event]))
        best = min(best, time.perf_counter() - started)
    outbox.close()
    assert best < 0.2
