"""Row types and Arrow schemas agree, field by field, and rows survive the way there and back."""

import typing
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest

from flywheel import records
from flywheel.errors import LakeError
from flywheel.lake.codec import arrow_schema, codecs
from flywheel.lake.manifests import Manifest
from flywheel.lake.schemas import MODELS, SCHEMAS, SHARED_FLOW, from_arrow, partition_date, to_arrow
from flywheel.records import Check, Decision, EvalCase, EvalResult, Inference, Message, Reason, Record, Signal

TS = datetime(2026, 3, 4, 5, 6, 7, 89, tzinfo=UTC)
NESTED = (
    records.FunctionCall, records.ToolCall, records.Message, records.RankedItem, records.RankedCandidate,
    records.Choosing, records.Check, records.Reason, records.Fallback, records.ShadowScores,
)  # fmt: skip
"""Row types that live inside others and have no table of their own."""

CALLED = records.ToolCall(id="c1", function=records.FunctionCall(name="weather", arguments='{"city": "Ulm"}'))
SAMPLES: list[tuple[str, Record]] = [
    ("inferences", Inference(
        inference_id="i", flow="f", ts=TS, ingest_ts=TS, subject="s", consent=["training"], model_version="m",
        messages=[Message(role="system", content="ü\n\U0001f600"), Message(role="user", content="")],
        params={"temperature": 0.5, "nested": {"a": [1, None, "x"]}}, choices=["a", "b"], tags={"k": "v"},
        prompt_tokens=0, ttft_ms=0.25,
    )),
    ("feedback", records.Feedback(
        feedback_id="f", inference_id="i", flow="f", ts=TS, subject="s", kind="click",
        items=[records.RankedItem(id="x", rank=1), records.RankedItem(id="y", rank=2, shown_ms=1.5, action="open")],
    )),
    ("consents", records.Consent(subject="s", purpose="training", ts=TS, state="withdrawn", expires_at=TS)),
    ("labels", records.Label(label_id="l", inference_id="i", flow="f", subject="s", annotator="a", ts=TS,
                             kind="correct", correction="c", split="gate")),
    ("signals", Signal(inference_id="i", signal="s", version="1", value=None)),
    ("examples", records.Example(example_id="e", flow="f", messages=[Message(role="user", content="q")], target="t",
                                 inference_ids=["i", "j"], subject="s", origin="liked")),
    ("eval_cases", EvalCase(case_id="c", flow="f", suite="s", messages=[Message(role="user", content="q")],
                            check=Check(kind="json", expected={"b": [1], "a": None}, fields=["a"]), origin="golden")),
    ("eval_cases", EvalCase(case_id="c", flow="f", suite="s", messages=[],
                            check=Check(kind="exact", expected='{"looks": "like json"}'), origin="golden")),
    ("eval_cases", EvalCase(case_id="c", flow="f", suite="s", messages=[],
                            check=Check(kind="contains", expected=["a", 1]), origin="golden")),
    ("eval_results", EvalResult(run_id="r", case_id="c", case_version=1, suite="s", model_version="m", answer="",
                                passed=False, score=0.0)),
    ("judgements", records.Judgement(
        judgement_id="j", flow="f", ts=TS, judge="m@1", item_id="i", left_version="a", right_version="b",
        verdict="abstain", forward="left", backward="right", left_length=3, right_length=4,
    )),
    ("shadow_pairs", records.ShadowPair(inference_id="i", flow="f", ts=TS, subject="s", candidate="c",
                                        live_version="m", live_answer="a", candidate_answer=None, error="timeout")),
    ("decisions", Decision(
        decision_id="d", flow="f", ts=TS, action="gate", verdict="reject", candidate="c", live=None,
        reasons=[Reason(name="n", passed=None, text="t"),
                 Reason(name="n", passed=False, measured=-0.5, interval=(-1.0, 0.0), threshold=0.0, text="t")],
    )),
    ("inferences", Inference(
        inference_id="i", flow="f", ts=TS, subject="s", model_version="m", messages=[],
        ranking=[records.RankedCandidate(id="x", score=1.0)],
        shadow_scores=[
            records.ShadowScores(version="r", scores=[0.5]), records.ShadowScores(version="q", error="timeout"),
        ],
    )),
    ("inferences", Inference(
        inference_id="i", flow="f", ts=TS, subject="s", model_version="m", messages=[], assignment="fallback",
        fallback=records.Fallback(assigned="c", eligible=["m", "c"], propensity=0.25, reason="engine_timeout"),
    )),
    ("turns", Manifest(kind="turn", id="t", flow="f", created=TS, parents=["dataset/d"], code_version="1",
                       config_hash="c", seed=3, data={"deep": {"list": [1.5, {"x": None}]}})),
    ("inferences", Inference(
        inference_id="i", flow="f", ts=TS, subject="s", model_version="m", messages=[], choices=["a", "b"],
        choice_served=1, choice_scores=[-0.5, 2.0], choice_propensity=0.75,
        choosing=records.Choosing(policy="softmax", temperature=0.5, epsilon=0.1, ranker="reward", ranker_version="r1"),
    )),
    ("inferences", Inference(
        inference_id="i", flow="f", ts=TS, subject="s", model_version="m", messages=[], list_log_propensity=-1.5,
        ranking=[
            records.RankedCandidate(id="x", text="ü", features={"price": 1.5, "brand": "b"}, score=1.0, rank=1,
                                    prefix_log_propensity=-0.5, position_propensity=0.6),
            records.RankedCandidate(id="y"),
        ],
        choosing=records.Choosing(policy="given", temperature=0.0, epsilon=0.0, ranker="none", fallback="timeout"),
    )),
    ("inferences", Inference(
        inference_id="i", flow="f", ts=TS, subject="s", model_version="m", choices=["", "b"], tool_calls=[[CALLED], []],
        messages=[Message(role="user", content="q", name="ann"),
                  Message(role="assistant", content="", tool_calls=[CALLED]),
                  Message(role="tool", content="sunny", tool_call_id="c1")],
    )),
]  # fmt: skip

CALL = "struct<id: string, type: string, function: struct<name: string, arguments: string>>"
ARROW_OF = {
    str: "string", int: "int64", float: "double", bool: "bool", datetime: "timestamp[us, tz=UTC]",
    records.Message: f"struct<role: string, content: string, name: string, tool_calls: list<item: {CALL}>, "
    "tool_call_id: string>",
    records.ToolCall: CALL,
    records.RankedItem: "struct<id: string, rank: int64, shown_ms: double, action: string>",
    records.RankedCandidate: "struct<id: string, text: string, features: string, score: double, rank: int64, "
    "prefix_log_propensity: double, position_propensity: double>",
    records.Choosing: "struct<policy: string, temperature: double, epsilon: double, ranker: string, "
    "ranker_version: string, fallback: string, request_key_hash: string>",
    records.Check: "struct<kind: string, expected: string, fields: list<item: string>, tolerance: double, "
    "threshold: double>",
    records.ShadowScores: "struct<version: string, scores: list<item: double>, error: string>",
    records.Fallback: "struct<assigned: string, eligible: list<item: string>, propensity: double, reason: string>",
    records.Reason: "struct<name: string, passed: bool, outcome: string, measured: double, "
    "interval: list<item: double>, threshold: double, text: string>",
}  # fmt: skip


def wanted_type(annotation: typing.Any) -> str:
    """What the lake should store, said here independently of the codec."""
    args = [arg for arg in typing.get_args(annotation) if arg is not type(None)]
    origin = typing.get_origin(annotation)
    if origin is dict:
        return "string"
    if origin is list:
        return f"list<item: {wanted_type(args[0])}>"
    if origin is typing.Literal:
        return ARROW_OF[type(args[0])]
    if args:  # Optional
        assert len(args) == 1, annotation
        return wanted_type(args[0])
    return ARROW_OF[annotation]


def test_every_row_type_has_a_table():
    defined = {item for item in vars(records).values() if isinstance(item, type) and issubclass(item, Record)}
    assert defined - {Record, *NESTED} == {*MODELS.values()} - {Manifest}


@pytest.mark.parametrize("table", SCHEMAS)
def test_schema_and_row_type_agree_field_by_field(table: str):
    model, schema = MODELS[table], SCHEMAS[table]
    hints = typing.get_type_hints(model)
    extra = [name for name in ("flow", "date") if name not in model.model_fields]
    assert schema.names == [*model.model_fields, *extra]
    for name in model.model_fields:
        assert str(schema.field(name).type) == wanted_type(hints[name]), name
        assert schema.field(name).nullable
    assert "date" in extra, "no row type may define the partition column"


def test_every_table_has_a_sample():
    assert {table for table, _ in SAMPLES} | {"datasets", "models"} == set(SCHEMAS)


@pytest.mark.parametrize(("table", "row"), SAMPLES)
def test_rows_survive_the_way_there_and_back(table: str, row: Record):
    stored = to_arrow(table, [row, row])
    assert stored.schema == SCHEMAS[table]
    assert from_arrow(stored, type(row)) == [row, row]


@pytest.mark.parametrize(
    ("beyond", "read"), [("9999-12-31T23:59:59-05:00", datetime.max), ("0001-01-01T00:00:00+05:00", datetime.min)]
)
def test_a_time_beyond_those_of_python_is_read_as_its_last_one(beyond: str, read: datetime):
    ends = (datetime.fromisoformat(beyond), None, TS)
    said = [records.Consent(subject="s", purpose="training", ts=TS, state="granted", expires_at=end) for end in ends]
    back = from_arrow(to_arrow("consents", said), records.Consent)
    assert [row.expires_at for row in back] == [read.replace(tzinfo=UTC), None, TS]


def test_open_values_are_json_text():
    stored = to_arrow("inferences", [SAMPLES[0][1]])
    assert stored["tags"].to_pylist() == ['{"k":"v"}']
    assert stored["params"].to_pylist() == ['{"nested":{"a":[1,null,"x"]},"temperature":0.5}']


def test_a_null_of_a_field_added_later_becomes_its_default_and_a_missing_required_field_an_error():
    row = to_arrow("inferences", [SAMPLES[0][1]]).drop_columns(["propensity", "tags"])
    assert from_arrow(row, Inference)[0].propensity == 1.0
    assert from_arrow(row, Inference)[0].tags == {}
    with pytest.raises(ValueError, match="model_version"):
        from_arrow(row.drop_columns(["model_version"]), Inference)


def test_the_partition_follows_the_inference_then_the_row_then_the_day():
    late, today = TS + timedelta(days=9), date(2026, 5, 5)
    uuid7 = f"{int(TS.timestamp() * 1000):012x}7000800000000000000a"
    assert partition_date(uuid7, late, today) == "2026-03-04"
    assert partition_date("6f0b5a0e-6f43-4a3f-9a51-3f2f2c9d7a10", late, today) == "2026-03-13"  # a UUIDv4 has no time
    assert partition_date("import-17", late, today) == "2026-03-13"
    assert partition_date("ffffffff-ffff-7fff-bfff-ffffffffffff", late, today) == "2026-03-13"
    assert partition_date(None, None, today) == "2026-05-05"


def test_partitions_are_utc_days():
    from datetime import timezone

    evening = datetime(2026, 1, 1, 23, 30, tzinfo=timezone(timedelta(hours=-5)))
    assert partition_date(None, evening) == "2026-01-02"


def test_arrow_input_is_completed_and_its_own_partitions_win():
    columns = {"inference_id": ["a", "b"], "value": [1.0, None], "flow": ["x", None], "date": ["2026-01-01", None]}
    stored = to_arrow("signals", pa.table(columns), flow="y")
    assert stored["flow"].to_pylist() == ["x", "y"]
    assert stored["date"].to_pylist()[0] == "2026-01-01"
    assert stored["detail"].null_count == 2
    assert to_arrow("signals", [SAMPLES[4][1]])["flow"].to_pylist() == [SHARED_FLOW]


def test_a_type_the_lake_cannot_store_is_an_error_that_names_the_field():
    class Bad(Record):
        wrong: complex

    with pytest.raises(LakeError, match=r"Bad\.wrong"):
        arrow_schema(Bad)


def test_codecs_are_computed_once():
    assert codecs(Inference) is codecs(Inference)
