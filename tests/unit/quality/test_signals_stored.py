import itertools
import uuid

import pytest

from flywheel.config import FlywheelConfig
from flywheel.lake.tables import Lake
from flywheel.quality.artifacts import write_rows
from flywheel.quality.score import ScoreResult, read_signals
from flywheel.quality.signals import SIGNALS
from flywheel.quality.signals.context import Context, Measured
from flywheel.quality.signals.light import columns, ranges, rows_of
from flywheel.quality.signals.stored import as_table, present, read
from flywheel.records import Signal

DAY = 1767225600000


def row_id(number):
    return str(uuid.UUID(int=((DAY + number * 86_400_000) << 80) | (7 << 76) | (2 << 62) | number))


@pytest.fixture
def lake(tmp_path):
    return Lake(str(tmp_path / "lake"))


def test_rows_of_a_table_are_a_row_a_signal(lake):
    ids = [row_id(n) for n in range(3)]
    data = as_table(ids, {"a": [1.0, None, 3.0], "b": [0.1, 0.2, None]}, {"a": "a-1", "b": "b-1"})
    assert data.select(["inference_id", "signal", "value"]).to_pylist()[:3] == [
        {"inference_id": ids[0], "signal": "a", "value": 1.0},
        {"inference_id": ids[0], "signal": "b", "value": 0.1},
        {"inference_id": ids[1], "signal": "a", "value": None},
    ]
    assert data["date"].to_pylist()[::2] == ["2026-01-01", "2026-01-02", "2026-01-03"]
    lake.append("signals", data, app="t", version=0, flow="f")
    assert len(lake.records("signals", Signal, flow="f")) == 6
    assert read(lake, "f", {"a-1"}) == {ids[0]: {"a": 1.0}, ids[1]: {"a": None}, ids[2]: {"a": 3.0}}
    assert present(lake, "f", {"a-1", "c-1"}) == {"a-1"}
    assert present(lake, "other", {"a-1"}) == set()


def test_a_row_that_was_stored_twice_counts_once(lake):
    data = as_table([row_id(1)], {"a": [1.0]}, {"a": "a-1"})
    for number in range(2):
        lake.append("signals", data, app=f"t{number}", version=0, flow="f")
    assert read(lake, "f", {"a-1"}) == {row_id(1): {"a": 1.0}}


def test_scorings_of_before_are_read_by_their_one_version(lake):
    lake.append("signals", [Signal(inference_id="x", signal="a", version="signals-1", value=2.0)], app="t", version=0,
                flow="f")  # fmt: skip
    old = ScoreResult(version="signals-1", table_version=lake.version("signals"), rows=1, reused=False)
    assert read_signals(lake, FlywheelConfig(flow="f"), old) == {"x": {"a": 2.0}}


def test_ranges_give_every_row_once(candidate, tmp_path):
    rows = [candidate(row_id(n), f"text {n} " + "é" * (n * 13 % 50)) for n in range(40)]
    path = write_rows(tmp_path / "c.jsonl", rows)
    size = path.stat().st_size
    for step in (37, 97, 700, size):
        cut = [(start, min(start + step, size)) for start in range(0, size, step)]
        assert [row for start, end in cut for row in rows_of(path, start, end)] == rows
    assert ranges(size) == [(0, size)]
    assert ranges(0) == []
    large = ranges(10**9)
    assert large[-1][1] == 10**9
    assert all(a[1] == b[0] for a, b in itertools.pairwise(large))


def test_columns_are_the_signals_of_each_row(candidate):
    rows = [Measured(candidate("a", target="four")), Measured(candidate("b", target="sixsix"))]
    assert columns(rows, Context(), ["length", "copy"]) == (["a", "b"], {"length": [4.0, 6.0], "copy": [None, None]})
    assert set(SIGNALS) >= {"length", "copy"}
