"""Deleting rows: exactly those, beside appends and compactions, and no file holds them afterwards."""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake.exceptions import CommitFailedError

from flywheel.errors import BusyError, NotFoundInLakeError
from flywheel.lake import commits, deletion
from flywheel.lake.commits import write_part
from flywheel.lake.tables import Lake
from flywheel.records import Signal

Work = Callable[[Lake], object]
BAD = pc.field("signal") == "bad"


def signal(n: object, name: str = "good", detail: str | None = None) -> Signal:
    return Signal(inference_id=f"i{n}", signal=name, version="1", value=1.0, detail=detail)


def ids(lake: Lake) -> list[str]:
    return sorted(lake.read("signals")["inference_id"].to_pylist())


def files(lake: Lake) -> set[Path]:
    return set(Path(lake.table_uri("signals")).rglob("*.parquet"))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


@pytest.fixture
def filled(lake: Lake) -> Lake:
    """Three files: a good one, a mixed one and a bad one."""
    for n, names in enumerate((["good", "good"], ["good", "bad"], ["bad", "bad"])):
        rows = [signal(f"{n}-{row}", name) for row, name in enumerate(names)]
        lake.append("signals", rows, app="a", version=n, flow="triage")
    return lake


def test_exactly_the_rows_asked_for_go(filled: Lake):
    before = files(filled)
    assert filled.count("signals", BAD) == 3
    assert filled.delete("signals", BAD) == 3
    assert ids(filled) == ["i0-0", "i0-1", "i1-0"]
    assert filled.count("signals", BAD) == 0
    assert len(files(filled) - before) == 1  # the good file was not touched, the bad one needs no copy


def test_nothing_to_delete_is_no_commit(filled: Lake):
    version = filled.version("signals")
    assert filled.delete("signals", pc.field("signal") == "other") == 0
    assert filled.version("signals") == version
    assert (
        filled.delete("labels", pc.field("subject") == "s") == filled.count("labels", pc.field("subject") == "s") == 0
    )


def test_rows_that_the_condition_is_null_of_stay(lake: Lake):
    lake.append("signals", [signal(0, detail="x"), signal(1), signal(2, detail="y")], app="a", version=0, flow="t")
    assert lake.delete("signals", pc.field("detail") == "x") == 1
    assert ids(lake) == ["i1", "i2"]


def test_partitions_and_batch_numbers_stay_as_they_were(filled: Lake):
    filled.delete("signals", BAD)
    assert filled.read("signals", flow="triage").num_rows == 3
    assert filled.last_committed("signals", "a") == 2
    assert not filled.append("signals", [signal(9)], app="a", version=2, flow="triage")


def test_copies_hold_no_statistics(filled: Lake):
    filled.delete("signals", BAD)
    for path in files(filled):
        row_group = pq.ParquetFile(path).metadata.row_group(0)
        assert all(row_group.column(n).statistics is None for n in range(row_group.num_columns))


def test_scrubbed_rows_are_in_no_file_and_old_versions_say_so(filled: Lake):
    at = filled.version("signals")
    filled.compact("signals")  # leaves the original files for older versions
    filled.delete("signals", BAD)
    assert filled.read("signals", at=at).num_rows == 6
    orphan = filled.write_parts("signals", [signal("being-written")], flow="triage")
    assert filled.scrub("signals")
    left = [row for path in files(filled) for row in pq.read_table(path, partitioning=None).to_pylist()]
    assert Counter(row["inference_id"] for row in left) == Counter(["i0-0", "i0-1", "i1-0", "ibeing-written"])
    with pytest.raises(NotFoundInLakeError, match=f"version {at} of the table signals cannot be read any more"):
        filled.read("signals", at=at)
    assert filled.commit_files("signals", orphan, app="b", version=0)
    assert ids(filled) == ["i0-0", "i0-1", "i1-0", "ibeing-written"]


def test_a_file_written_before_a_column_existed_is_searched_too(filled: Lake):
    old = pa.table({"inference_id": ["iold", "iold-bad"], "signal": ["good", "bad"], "version": ["1"] * 2})
    part = write_part(filled.store, "tables/signals", old, "triage", "2026-01-01")
    filled.commit_files("signals", [part], app="old", version=0)
    assert filled.delete("signals", BAD & pc.field("detail").is_null()) == 4
    assert ids(filled) == ["i0-0", "i0-1", "i1-0", "iold"]


@pytest.mark.parametrize("rival", ["append", "compact", "delete"])
def test_who_committed_between_look_and_commit_loses_nothing(filled: Lake, monkeypatch: pytest.MonkeyPatch, rival: str):
    real, rivals = deletion.commit_swaps, [rival]

    def overtaken(*how, **more):
        while rivals:
            what = rivals.pop()
            other = Lake(filled.uri)
            if what == "append":
                other.append("signals", [signal("new"), signal("new-bad", "bad")], app="b", version=0, flow="triage")
            elif what == "compact":
                assert other.compact("signals") == 2
            else:
                assert other.delete("signals", BAD | (pc.field("inference_id") == "i0-0")) == 4
        real(*how, **more)

    monkeypatch.setattr(deletion, "commit_swaps", overtaken)
    removed = filled.delete("signals", BAD)
    wanted = {
        "append": ["i0-0", "i0-1", "i1-0", "inew"],
        "compact": ["i0-0", "i0-1", "i1-0"],
        "delete": ["i0-1", "i1-0"],
    }
    assert ids(filled) == wanted[rival]
    assert removed == {"append": 4, "compact": 3, "delete": 0}[rival]


def test_a_copy_that_lost_its_race_is_deleted(filled: Lake, monkeypatch: pytest.MonkeyPatch):
    """It holds rows of others, who may be erased next."""
    real, rivals = deletion.commit_swaps, ["compact"]

    def overtaken(*how, **more):
        while rivals:
            rivals.pop()
            assert Lake(filled.uri).compact("signals") == 2
        real(*how, **more)

    monkeypatch.setattr(deletion, "commit_swaps", overtaken)
    assert filled.delete("signals", BAD) == 3
    filled.scrub("signals")
    assert len(files(filled)) == filled.file_count("signals") == 1


def test_no_copy_is_left_by_one_that_was_overtaken_every_time(filled: Lake, monkeypatch: pytest.MonkeyPatch):
    def lost(*how, **more):
        raise CommitFailedError("somebody else was quicker")

    before = files(filled)
    monkeypatch.setattr(commits, "ATTEMPTS", 3)
    monkeypatch.setattr(deletion, "commit_swaps", lost)
    with pytest.raises(BusyError):
        filled.delete("signals", BAD)
    assert files(filled) == before


def test_a_part_that_a_killed_writer_left_is_looked_into(filled: Lake):
    parts = [filled.write_parts("signals", [signal(name, name)], flow="triage")[0] for name in ("bad", "good")]
    paths = [Path(filled.table_uri("signals")) / part.path for part in parts]
    filled.delete("signals", BAD)
    filled.scrub("signals", BAD)
    assert all(path.exists() for path in paths), "its commit may be on its way"
    past = time.time() - timedelta(minutes=20).total_seconds()
    for path in paths:
        os.utime(path, (past, past))
    filled.scrub("signals", BAD)
    assert [path.exists() for path in paths] == [False, True]


def test_what_a_killed_writer_left_half_written_goes_after_an_hour(filled: Lake):
    staged = Path(filled.table_uri("signals")) / "flow=triage" / "part-1.parquet#1"
    staged.write_bytes(b"half")
    assert filled.store.remove_staged() == 0
    past = time.time() - timedelta(hours=2).total_seconds()
    os.utime(staged, (past, past))
    assert filled.store.remove_staged() == 1
    assert not staged.exists()


def test_a_lost_answer_to_our_own_commit_counts(filled: Lake, monkeypatch: pytest.MonkeyPatch):
    real, calls = deletion.commit_swaps, []

    def lossy(*how, **more):
        real(*how, **more)
        calls.append(1)
        raise CommitFailedError("the answer was lost")

    monkeypatch.setattr(deletion, "commit_swaps", lossy)
    assert filled.delete("signals", pc.field("inference_id") == "i1-1") == 1
    assert (len(calls), len(ids(filled))) == (1, 5)


def test_a_reader_whose_file_is_replaced_under_it_reads_the_next_version(filled: Lake, monkeypatch: pytest.MonkeyPatch):
    real, left = Lake._open, [1]

    def slow(self, table, at=None):
        snapshot = real(self, table, at)
        if left:
            left.pop()
            other = Lake(filled.uri)
            other.delete("signals", BAD)
            other.scrub("signals")
        return snapshot

    monkeypatch.setattr(Lake, "_open", slow)
    assert ids(filled) == ["i0-0", "i0-1", "i1-0"]


def test_parts_of_dead_writers_go_after_a_day(filled: Lake):
    (part,) = filled.write_parts("signals", [signal("dead", "bad")], flow="triage")
    path = Path(filled.table_uri("signals")) / part.path
    filled.scrub("signals")
    assert path.exists()
    past = time.time() - timedelta(days=1, hours=1).total_seconds()
    os.utime(path, (past, past))
    filled.scrub("signals")
    assert not path.exists()


def race(lake: Lake, writers: Sequence[Work], others: Sequence[Work]) -> None:
    """Run ``writers`` to their end, each with a lake of its own, and ``others`` again and again until then."""
    done = threading.Event()

    def again_and_again(work: Work) -> None:
        own = Lake(lake.uri)
        while not done.is_set():
            work(own)

    with ThreadPoolExecutor(len(writers) + len(others)) as pool:
        background = [pool.submit(again_and_again, work) for work in others]
        try:
            for result in [pool.submit(work, Lake(lake.uri)) for work in writers]:
                result.result()
        finally:
            done.set()
        for result in background:
            result.result()


@pytest.mark.slow
def test_writers_two_compactions_two_deletions_and_readers_at_once(lake: Lake):
    """Every good row is there once and no bad one is, whoever overtook whom."""
    batches, removed = 40, []
    lake.append("signals", [signal("first")], app="z", version=0, flow="t")

    def write(me: int, own: Lake):
        for n in range(batches):
            rows = [signal(f"{me}-{n}"), signal(f"{me}-{n}-bad", "bad")]
            assert own.append("signals", rows, app=f"a{me}", version=n, flow=f"flow{me}")

    def delete(own: Lake):
        removed.append(own.delete("signals", BAD))
        own.scrub("signals")

    def compact(own: Lake):
        own.compact("signals")

    race(lake, [partial(write, me) for me in range(2)], [delete, delete, compact, compact, ids])
    removed.append(lake.delete("signals", BAD))
    assert Counter(ids(lake)) == Counter(["ifirst", *(f"i{me}-{n}" for me in range(2) for n in range(batches))])
    assert sum(removed) == 2 * batches
