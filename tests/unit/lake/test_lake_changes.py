"""What came since a version: appends and nothing else; deletions and lost logs send the reader back to the start."""

from pathlib import Path

import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.lake.changes import changes, changes_known, pick
from flywheel.lake.tables import Lake
from flywheel.records import Signal

COLUMNS = ("inference_id", "signal", "flow")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path))


def write(lake: Lake, version: int, *names: str, flow="f", app="a") -> None:
    rows = [Signal(inference_id=name, signal="s", version="1", value=1.0) for name in names]
    lake.append("signals", rows, app=app, version=version, flow=flow)


def since(lake: Lake, version: int | None):
    return changes(lake, "signals", since=version, flow="f", columns=COLUMNS)


def names(found) -> list[str]:
    return sorted(found.rows["inference_id"].to_pylist())


def test_no_table_and_nothing_new(lake: Lake):
    assert since(lake, None) == (None, since(lake, None).rows)
    write(lake, 1, "a")
    first = since(lake, None)
    assert names(first) == ["a"]
    assert first.rows["flow"].to_pylist() == ["f"]
    again = since(lake, first.version)
    assert again.version == first.version
    assert len(again.rows) == 0


def test_only_what_is_new_and_of_this_flow(lake: Lake):
    write(lake, 1, "a")
    seen = since(lake, None).version
    write(lake, 2, "b", "c")
    write(lake, 1, "other", flow="g", app="b")
    write(lake, 3, "d")
    assert names(since(lake, seen)) == ["b", "c", "d"]


def test_only_new_files_are_read(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    for n in range(5):
        write(lake, n + 1, f"old{n}")
    seen = since(lake, None).version
    write(lake, 9, "new")
    read = []
    get = lake.store.get

    def counted(key):
        read.append(key)
        return get(key)

    monkeypatch.setattr(lake.store, "get", counted)
    assert names(since(lake, seen)) == ["new"]
    assert sum(key.endswith(".parquet") for key in read) == 1


def test_a_compaction_brings_nothing_new(lake: Lake):
    for n in range(4):
        write(lake, n + 1, f"r{n}")
    seen = since(lake, None).version
    assert lake.compact("signals") > 0
    found = since(lake, seen)
    assert found.version > seen
    assert len(found.rows) == 0
    write(lake, 9, "after")
    assert names(since(lake, seen)) == ["after"]


def test_a_deletion_says_read_everything(lake: Lake):
    write(lake, 1, "a", "b")
    seen = since(lake, None).version
    lake.delete("signals", pc.field("inference_id") == "a")
    assert since(lake, seen) is None


def test_files_that_are_gone_say_read_everything(lake: Lake):
    write(lake, 1, "a")
    seen = since(lake, None).version
    write(lake, 2, "b")
    write(lake, 3, "c")
    lake.compact("signals")
    lake.scrub("signals")
    assert since(lake, seen) is None


def test_a_log_entry_that_is_gone_is_noticed(lake: Lake):
    write(lake, 1, "a")
    seen = since(lake, None).version
    assert changes_known(lake, "signals", seen)
    write(lake, 2, "b")
    assert changes_known(lake, "signals", seen)
    entry = lake.store.local_path(f"tables/signals/_delta_log/{seen + 1:020d}.json")
    checkpointed = lake.version("signals")
    DeltaTable(lake.table_uri("signals")).create_checkpoint()
    entry.unlink()
    assert lake.version("signals") == checkpointed
    assert not changes_known(lake, "signals", seen)
    assert changes_known(lake, "signals", checkpointed)


@settings(max_examples=6, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=6))
def test_every_row_is_told_once(tmp_path_factory, looks):
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    told, version = [], None
    for n, look in enumerate(looks):
        write(lake, n + 1, f"r{n}")
        if look:
            found = since(lake, version)
            told, version = told + names(found), found.version
    told += names(since(lake, version))
    assert told == [f"r{n}" for n in range(len(looks))]


def test_picked_rows(lake: Lake):
    write(lake, 1, "a", "b", "c")
    day = lake.read("signals", columns=["date"])["date"][0].as_py()
    found = pick(lake, "signals", flow="f", dates=[day], column="inference_id", values={"a", "c", "z"}, columns=COLUMNS)
    assert sorted(found["inference_id"].to_pylist()) == ["a", "c"]
    assert len(pick(lake, "signals", flow="f", dates=[], column="signal", values={"s"}, columns=COLUMNS)) == 0
