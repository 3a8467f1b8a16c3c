"""Compaction: fewer files, the same rows, whoever else commits meanwhile."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake.exceptions import CommitFailedError

from flywheel.errors import LakeError
from flywheel.lake import commits, compaction
from flywheel.lake.commits import write_part
from flywheel.lake.swaps import File
from flywheel.lake.tables import Lake
from flywheel.records import Signal

FIRST = pc.field("inference_id") == "i0"
DAY = datetime.now(UTC).date().isoformat()


def append(lake: Lake, n: int, flow: str = "triage") -> None:
    lake.append(
        "signals", [Signal(inference_id=f"i{n}", signal="s", version="1", value=1.0)], app="a", version=n, flow=flow
    )


def ids(lake: Lake) -> list[str]:
    return sorted(lake.read("signals")["inference_id"].to_pylist())


def on_disk(lake: Lake) -> list[str]:
    """Every row of every file, committed or not."""
    paths = Path(lake.table_uri("signals")).rglob("*.parquet")
    return sorted(row["inference_id"] for path in paths for row in pq.read_table(path, partitioning=None).to_pylist())


@pytest.fixture
def filled(tmp_path: Path) -> Lake:
    """Four files of one partition."""
    lake = Lake(str(tmp_path / "lake"))
    for n in range(4):
        append(lake, n)
    return lake


@pytest.fixture
def before_commit(filled: Lake, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Lake], object]], None]:
    """Lets somebody else do something once, between a compaction's look and its commit."""
    real = compaction.commit_swaps

    def arrange(work: Callable[[Lake], object]) -> None:
        due = [work]

        def overtaken(*how, **more):
            if due:
                due.pop()(Lake(filled.uri))
            real(*how, **more)

        monkeypatch.setattr(compaction, "commit_swaps", overtaken)

    return arrange


def test_partitions_stay_apart_and_a_flow_can_be_chosen(filled: Lake):
    for n in range(4, 8):
        append(filled, n, flow="other")
    assert filled.compact("signals", flow="other") == 3
    assert filled.file_count("signals") == 5
    assert filled.compact("signals") == 3
    assert filled.compact("signals") == 0
    assert ids(filled) == [f"i{n}" for n in range(8)]
    assert sorted(filled.read("signals", flow="other")["inference_id"].to_pylist()) == [f"i{n}" for n in range(4, 8)]


def test_two_compactions_of_one_version_double_nothing(filled: Lake, before_commit: Callable[..., None]):
    """As two ingesters do that end the same batch; delta-rs's own compaction doubles every row here."""
    done: list[int] = []
    before_commit(lambda other: done.append(other.compact("signals")))
    assert filled.compact("signals") == 0
    assert done == [3]
    assert ids(filled) == ["i0", "i1", "i2", "i3"]
    assert on_disk(filled) == sorted(2 * ["i0", "i1", "i2", "i3"])  # the small files, for older versions; one copy


def test_a_row_erased_meanwhile_is_in_no_copy(filled: Lake, before_commit: Callable[..., None]):
    def erase(other: Lake) -> None:
        assert other.delete("signals", FIRST) == 1
        assert other.scrub("signals")

    before_commit(erase)
    assert filled.compact("signals") == 0
    assert ids(filled) == on_disk(filled) == ["i1", "i2", "i3"]


def test_a_copy_is_made_once_and_outlives_appends(filled: Lake, before_commit, monkeypatch: pytest.MonkeyPatch):
    writes, real = [], compaction.write_part
    monkeypatch.setattr(compaction, "write_part", lambda *part: writes.append(part) or real(*part))
    before_commit(lambda other: append(other, 9))
    assert filled.compact("signals") == 3
    assert len(writes) == 1
    assert ids(filled) == ["i0", "i1", "i2", "i3", "i9"]
    assert filled.file_count("signals") == 2


def test_files_that_vanish_while_they_are_read_are_left_to_the_next_time(filled: Lake, monkeypatch: pytest.MonkeyPatch):
    real, due = File.read, [True]

    def read(file: File, *where) -> pa.Table:
        while due:
            due.pop()
            other = Lake(filled.uri)
            other.delete("signals", FIRST)
            other.scrub("signals")
        return real(file, *where)

    monkeypatch.setattr(File, "read", read)
    assert filled.compact("signals") == 0
    assert filled.compact("signals") == 2
    assert ids(filled) == ["i1", "i2", "i3"]


def test_a_lost_answer_to_our_own_commit_counts(filled: Lake, monkeypatch: pytest.MonkeyPatch):
    real, calls = compaction.commit_swaps, []

    def lossy(*how, **more):
        real(*how, **more)
        calls.append(1)
        append(Lake(filled.uri), 9)
        raise CommitFailedError("the answer was lost")

    monkeypatch.setattr(compaction, "commit_swaps", lossy)
    assert filled.compact("signals") == 3
    assert len(calls) == 1
    assert ids(filled) == ["i0", "i1", "i2", "i3", "i9"]


def test_one_that_is_overtaken_every_time_merges_nothing_and_leaves_nothing(filled: Lake, monkeypatch):
    def lost(*how, **more):
        raise CommitFailedError("somebody else was quicker")

    monkeypatch.setattr(compaction, "commit_swaps", lost)
    assert filled.compact("signals") == 0
    assert on_disk(filled) == ids(filled) == ["i0", "i1", "i2", "i3"]


def test_the_last_answer_of_all_was_lost_and_nothing_committed_is_deleted(
    filled: Lake, monkeypatch: pytest.MonkeyPatch
):
    real, left = compaction.commit_swaps, [3]
    monkeypatch.setattr(commits, "ATTEMPTS", 3)

    def lossy(*how, **more):
        left[0] -= 1
        if left[0] == 0:
            real(*how, **more)
        raise CommitFailedError("no answer")

    monkeypatch.setattr(compaction, "commit_swaps", lossy)
    assert filled.compact("signals") == 3
    assert ids(filled) == ["i0", "i1", "i2", "i3"]
    assert filled.file_count("signals") == 1


def test_a_full_disk_is_said_and_what_was_merged_before_stays_merged(filled: Lake, monkeypatch: pytest.MonkeyPatch):
    append(filled, 4, flow="other")
    append(filled, 5, flow="other")
    before, real, room = ids(filled), compaction.write_part, [True]

    def write(*part):
        if not room:
            raise OSError(28, "No space left on device")
        room.pop()
        return real(*part)

    monkeypatch.setattr(compaction, "write_part", write)
    with pytest.raises(LakeError, match="the disk is full"):
        filled.compact("signals")
    assert ids(filled) == before
    assert filled.file_count("signals") == 5


def test_files_from_before_a_column_existed_are_merged_too(filled: Lake):
    old = pa.table({"inference_id": ["iold"], "signal": ["s"], "version": ["1"]})
    part = write_part(filled.store, "tables/signals", old, "triage", DAY)
    filled.commit_files("signals", [part], app="old", version=0)
    assert filled.compact("signals") == 4
    assert ids(filled) == ["i0", "i1", "i2", "i3", "iold"]


def test_large_files_are_left_alone_and_no_copy_is_larger(filled: Lake, monkeypatch: pytest.MonkeyPatch):
    def file(name: str, size: int, flow: str = "f") -> File:
        return File(name, flow, DAY, size, 0, data=None, schema=pa.schema([]))  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(compaction, "TARGET_BYTES", 100)
    files = [file("a", 40), file("b", 50), file("c", 49), file("d", 45, "g"), file("e", 30), file("f", 5, "g")]
    found = [[one.path for one in group] for group in compaction.bins(files)]
    assert found == [["a", "c"], ["d", "f"]]
    assert list(compaction.bins(files[:1])) == []
