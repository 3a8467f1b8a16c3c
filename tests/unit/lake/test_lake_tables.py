"""Tables: exactly-once appends, partitions, snapshots, what the log may hold."""

import json
import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Field, Schema, write_deltalake

from flywheel.config import FlywheelConfig
from flywheel.errors import LakeError
from flywheel.lake.commits import TableAddress
from flywheel.lake.schemas import SHARED_FLOW, schema_of, to_arrow
from flywheel.lake.tables import Lake, open_lake
from flywheel.records import Check, Consent, EvalCase, Inference, Message, Signal

SECRET = "my-secret-text"


def uuid7(day: datetime, n: int) -> str:
    head = f"{int(day.timestamp() * 1000):012x}"
    return f"{head[:8]}-{head[8:]}-7000-8000-{n:012x}"


def inference(n: int, *, day: int = 1, flow: str = "triage") -> Inference:
    ts = datetime(2026, 1, day, 12, tzinfo=UTC)
    return Inference(
        inference_id=uuid7(ts, n),
        flow=flow,
        ts=ts,
        subject=f"s{n}",
        model_version="m1",
        messages=[Message(role="user", content=f"{SECRET} {n}")],
        params={"temperature": 0.0, "stop": ["\n"]},
        choices=["a"],
        tags={"k": "v"},
    )


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def test_a_missing_table_reads_as_empty_with_its_schema(lake: Lake):
    assert lake.read("inferences").schema == schema_of("inferences")
    assert lake.read("inferences").num_rows == 0
    assert lake.version("inferences") is None
    assert lake.last_committed("inferences", "ingest/triage") is None


def test_rows_come_back_equal(lake: Lake):
    rows = [inference(n) for n in range(3)]
    assert lake.append("inferences", rows, app="ingest/triage", version=0)
    assert sorted(lake.records("inferences", Inference), key=lambda row: row.inference_id) == rows


def test_a_batch_counts_once(lake: Lake):
    assert lake.append("inferences", [inference(0)], app="ingest/triage", version=3)
    assert not lake.append("inferences", [inference(0)], app="ingest/triage", version=3)
    assert not lake.append("inferences", [inference(9)], app="ingest/triage", version=2)
    assert lake.append("inferences", [inference(1)], app="import/triage", version=3)
    assert lake.read("inferences").num_rows == 2
    assert lake.last_committed("inferences", "ingest/triage") == 3


def test_an_empty_batch_is_marked_as_done(lake: Lake):
    assert lake.append("inferences", [], app="ingest/triage", version=7)
    assert lake.last_committed("inferences", "ingest/triage") == 7
    assert not lake.append("inferences", [inference(0)], app="ingest/triage", version=7)
    assert lake.read("inferences").num_rows == 0


def test_reads_touch_only_the_partitions_asked_for(lake: Lake):
    rows = [inference(0, day=1), inference(1, day=2), inference(2, day=2, flow="other")]
    lake.append("inferences", rows, app="a", version=0)
    for path in Path(lake.table_uri("inferences")).glob("flow=triage/date=2026-01-01/*.parquet"):
        path.unlink()  # a read that touched it would fail
    assert lake.read("inferences", flow="triage", dates=["2026-01-02"])["subject"].to_pylist() == ["s1"]
    assert lake.read_partition_ids("inferences", "other", {"2026-01-02"}, "subject") == {"s2"}
    assert lake.read("inferences", flow="triage", dates=[]).num_rows == 0
    with pytest.raises(LakeError):
        lake.read("inferences", flow="triage")


def test_a_scan_gives_what_a_read_gives_in_pieces(lake: Lake):
    assert list(lake.scan("inferences")) == []
    for n in range(3):
        lake.append("inferences", [inference(10 * n + i, day=1 + n % 2) for i in range(10)], app="a", version=n)
    lake.append("inferences", [inference(99, flow="other")], app="a", version=3)
    pieces = list(lake.scan("inferences", flow="triage", columns=["subject", "date"], rows=4))
    assert max(piece.num_rows for piece in pieces) == 4
    whole = lake.read("inferences", flow="triage", columns=["subject", "date"])
    assert pieces[0].schema == whole.schema
    assert sorted(row["subject"] for piece in pieces for row in piece.to_pylist()) == sorted(
        whole["subject"].to_pylist()
    )
    with pytest.raises(LakeError, match="no column 'colour'"):
        list(lake.scan("inferences", columns=["colour"]))


def test_rows_without_a_flow_are_seen_from_every_flow(lake: Lake):
    ts = datetime(2026, 1, 1, tzinfo=UTC)
    lake.append("consents", [Consent(subject="s", purpose="training", ts=ts, state="granted")], app="a", version=0)
    signal = Signal(inference_id="i", signal="len", version="1", value=None)
    lake.append("signals", [signal], app="a", version=0, flow="triage")
    assert lake.read("consents", flow="triage")["flow"].to_pylist() == [SHARED_FLOW]
    assert lake.records("signals", Signal, flow="triage") == [signal]
    assert lake.records("signals", Signal, flow="other") == []


def test_a_snapshot_stays_as_it_was(lake: Lake):
    lake.append("inferences", [inference(0)], app="a", version=0)
    at = lake.version("inferences")
    lake.append("inferences", [inference(1)], app="a", version=1)
    lake.compact("inferences")
    assert lake.read("inferences", at=at).num_rows == 1
    assert lake.read("inferences").num_rows == 2
    with pytest.raises(LakeError, match="version"):
        lake.read("inferences", at=99)


def test_the_log_holds_no_text_and_no_statistics_of_columns(lake: Lake):
    for n in range(25):  # past a checkpoint
        lake.append("inferences", [inference(n)], app="a", version=n)
    lake.compact("inferences")
    DeltaTable(lake.table_uri("inferences")).create_checkpoint()
    log = Path(lake.table_uri("inferences")) / "_delta_log"
    assert list(log.glob("*.checkpoint.parquet"))
    for entry in log.iterdir():
        assert SECRET.encode() not in entry.read_bytes(), entry.name
    stats = [
        json.loads(line)["add"]["stats"]
        for entry in log.glob("*.json")
        for line in entry.read_text().splitlines()
        if "add" in json.loads(line)
    ]
    assert stats
    for text in stats:
        assert not json.loads(text).get("minValues"), text
        assert not json.loads(text).get("maxValues"), text


def test_exactly_once_survives_checkpoints_and_compaction(lake: Lake):
    for n in range(45):
        lake.append("inferences", [inference(n)], app="a", version=n)
    assert lake.compact("inferences") == 44
    assert not lake.append("inferences", [inference(44)], app="a", version=44)
    assert lake.read("inferences").num_rows == 45
    assert lake.compact("decisions") == 0


def test_vacuum_removes_parts_that_were_never_committed(lake: Lake):
    lake.append("inferences", [inference(0)], app="a", version=0)
    orphan = lake.write_parts("inferences", [inference(1)])[0]
    removed = lake.vacuum("inferences", older_than=timedelta(0))
    assert [path for path in removed if orphan.path in path]
    assert lake.read("inferences").num_rows == 1


def test_parts_of_workers_are_one_commit(lake: Lake):
    parts = [
        part for n in range(4) for part in pickle.loads(pickle.dumps(lake)).write_parts("inferences", [inference(n)])
    ]
    assert lake.read("inferences").num_rows == 0
    assert lake.commit_files("inferences", parts, app="score/x", version=0)
    assert not lake.commit_files("inferences", parts, app="score/x", version=0)
    assert lake.read("inferences").num_rows == 4
    assert lake.version("inferences") == 1  # creation, then one commit


def test_a_table_made_before_a_field_existed_still_reads_and_grows(lake: Lake):
    old = schema_of("signals").remove(schema_of("signals").get_field_index("detail"))
    TableAddress(lake.table_uri("signals"), {}).ensure(old)
    new = Signal(inference_id="i", signal="s", version="1", value=1.0, detail="why")
    assert lake.append("signals", [new], app="a", version=0)
    assert lake.records("signals", Signal) == [new]


def test_a_table_made_before_a_nested_field_existed_still_reads_and_grows(lake: Lake):
    new = EvalCase(
        case_id="b",
        flow="f",
        suite="s",
        messages=[],
        origin="golden",
        check=Check(kind="exact", expected="x", tolerance=1),
    )
    schema = schema_of("eval_cases")
    place = schema.get_field_index("check")
    old = schema.set(place, pa.field("check", pa.struct([("kind", pa.string()), ("expected", pa.string())])))
    table = TableAddress(lake.table_uri("eval_cases"), {}).ensure(old)
    case = EvalCase(
        case_id="a", flow="f", suite="s", messages=[], origin="golden", check=Check(kind="exact", expected="y")
    )
    rows = to_arrow("eval_cases", [case])
    narrow = rows.set_column(place, "check", pa.array([{"kind": "exact", "expected": '"y"'}], old.field("check").type))
    write_deltalake(table, narrow, mode="append")
    assert lake.append("eval_cases", [new], app="a", version=0)
    assert sorted(lake.records("eval_cases", EvalCase), key=lambda row: row.case_id) == [case, new]


def test_a_column_of_another_type_is_an_error_and_stays(lake: Lake):
    schema = schema_of("signals")
    place = schema.get_field_index("value")
    TableAddress(lake.table_uri("signals"), {}).ensure(schema.set(place, pa.field("value", pa.string())))
    with pytest.raises(LakeError, match="stores value in another form"):
        lake.append("signals", [Signal(inference_id="i", signal="s", version="1", value=1.0)], app="a", version=0)


def test_a_column_of_a_later_release_is_left_alone(lake: Lake):
    TableAddress(lake.table_uri("signals"), {}).ensure(schema_of("signals"))
    DeltaTable(lake.table_uri("signals")).alter.add_columns(
        [Field("later", Schema.from_arrow(pa.schema([("x", pa.int64())])).fields[0].type)]
    )
    assert lake.append("signals", [Signal(inference_id="i", signal="s", version="1", value=1.0)], app="a", version=0)
    assert lake.read("signals").column_names == schema_of("signals").names


def test_names_that_do_not_exist_are_errors_that_name_the_known_ones(lake: Lake):
    with pytest.raises(LakeError, match="no table 'inference'"):
        lake.read("inference")
    with pytest.raises(LakeError, match="no column 'nope'"):
        lake.read("inferences", columns=["nope"])
    with pytest.raises(LakeError, match="no column nope"):
        lake.append("inferences", pa.table({"nope": [1]}), app="a", version=0)
    with pytest.raises(LakeError, match="holds Inference rows"):
        lake.append("inferences", [Signal(inference_id="i", signal="s", version="1", value=1.0)], app="a", version=0)


def test_a_lost_answer_to_our_own_commit_is_still_ours(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    from deltalake.exceptions import CommitFailedError

    from flywheel.lake import commits

    real, calls = commits._commit, []

    def lossy(*args: object) -> None:
        real(*args)  # type: ignore[arg-type]
        calls.append(1)
        raise CommitFailedError("the answer was lost")

    monkeypatch.setattr(commits, "_commit", lossy)
    assert lake.append("inferences", [inference(0)], app="a", version=0)
    assert len(calls) == 1
    assert lake.read("inferences").num_rows == 1


def test_the_configured_lake_is_opened(tmp_path: Path):
    assert open_lake(FlywheelConfig(home=tmp_path / "home")).uri == str(tmp_path / "home" / "lake")


def test_parts_of_a_batch_that_another_writer_commits_first_do_not_lie_about(lake: Lake):
    other = Lake(lake.uri)

    class Slow(Lake):
        def write_parts(self, table, rows, *, flow=None):
            parts = super().write_parts(table, rows, flow=flow)
            assert other.append("inferences", [inference(1)], app="a", version=0)
            return parts

    lake.append("inferences", [inference(0)], app="z", version=0)
    assert not Slow(lake.uri).append("inferences", [inference(2)], app="a", version=0)
    assert len(list(Path(lake.table_uri("inferences")).rglob("*.parquet"))) == 2
    assert sorted(row.subject for row in lake.records("inferences", Inference)) == ["s0", "s1"]
