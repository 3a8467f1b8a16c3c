"""Readers: what other programs export, in the shapes they export it."""

import contextlib
import copy
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.capture.import_format import RefusedError
from flywheel.capture.readers import FORMATS, InteractionReader, Reading, read_purposes
from flywheel.capture.readers.reactions import reaction
from flywheel.capture.readers.shapes import answer_of, prompt_of
from flywheel.errors import UsageError

USER = {"role": "user", "content": "hi"}
HELLO = {"role": "assistant", "content": "hello"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


def read(data, **reading):
    reader = InteractionReader(Reading(**reading), "triage")
    return reader.read(json.dumps(data).encode()), reader


def refused(data, **reading):
    with pytest.raises(RefusedError) as error:
        read(data, **reading)
    return error.value.field, error.value.reason


# --- OpenAI ---------------------------------------------------------------------------------------------------------


def test_an_openai_example_is_an_answer_that_is_liked():
    row, reader = read({"messages": [{"role": "developer", "content": "be nice"}, USER, HELLO], "tools": [{"a": 1}]})
    assert reader.format == "openai"
    assert [message.model_dump() for message in row.messages] == [{"role": "system", "content": "be nice"}, USER]
    assert (row.response, row.flow, row.consent, row.model) == ("hello", "triage", [], "imported")
    assert [(one.kind, one.value) for one in row.feedback] == [("thumbs", 1)]
    assert reader.ignored == {"tools": 1}
    parts = {"role": "user", "content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]}
    assert read({"messages": [parts, HELLO]})[0].messages[0].content == "hi"


def test_the_last_of_several_answers_is_the_answer_and_weight_0_is_no_praise():
    row, _ = read({"messages": [USER, HELLO, USER, {**HELLO, "content": "again?", "weight": 0}]})
    assert ([message.role for message in row.messages], row.response) == (["user", "assistant", "user"], "again?")
    assert row.feedback == []


def test_an_openai_pair_is_a_correction():
    rude = {**HELLO, "content": "go away"}
    row, _ = read({"input": {"messages": [USER]}, "preferred_output": [HELLO], "non_preferred_output": [rude]})
    assert (row.response, row.feedback[0].kind, row.feedback[0].text) == ("go away", "correction", "hello")


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [USER]}, "messages.0.role"),
        ({"messages": [HELLO]}, "messages"),
        ({"messages": [USER, {"role": "assistant", "content": None}]}, "messages.1.content"),
        ({"messages": [USER, {"role": "assistant", "tool_calls": [{"id": "x"}]}]}, "messages.1.tool_calls"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}, HELLO]}, "messages.0.content.0"),
        ({"messages": [{"role": "robot", "content": "x"}, HELLO]}, "messages.0.role"),
        ({"messages": [7, HELLO]}, "messages.0"),
        ({"input": {}, "preferred_output": [HELLO]}, "input.messages"),
        ({"input": {"messages": [USER]}, "preferred_output": [HELLO]}, "non_preferred_output"),
    ],
)
def test_what_an_openai_file_may_not_hold(data, field):
    assert refused(data)[0] == field


# --- Langfuse -------------------------------------------------------------------------------------------------------

TRACE = {
    "id": "t1", "timestamp": "2025-05-01T10:00:00.000Z", "name": "chat", "userId": "ann", "sessionId": "s1",
    "input": {"question": "hi"}, "output": "hello", "htmlPath": "/x",
    "scores": [
        {"name": "user-feedback", "value": 0, "dataType": "BOOLEAN", "source": "API", "comment": "rude"},
        {"name": "rating", "value": 2, "dataType": "NUMERIC", "source": "ANNOTATION", "authorUserId": "rev",
         "timestamp": "2025-05-02T10:00:00.000Z"},
        {"name": "correction", "stringValue": "hello there", "dataType": "CATEGORICAL", "source": "ANNOTATION"},
        {"name": "helpful", "value": 1, "dataType": "BOOLEAN", "source": "EVAL"},
        {"name": "toxicity", "value": 0.2, "dataType": "NUMERIC", "source": "API"},
    ],
    "observations": [
        {"id": "o1", "type": "SPAN", "input": 1, "output": 2, "startTime": "2025-05-01T10:00:00.000Z"},
        {"id": "o2", "type": "GENERATION", "model": "gpt", "startTime": "2025-05-01T10:00:00.100Z",
         "input": [{"role": "system", "content": "be nice"}, USER], "output": HELLO},
        {"id": "o3", "type": "GENERATION", "model": "titles", "startTime": "2025-05-01T10:00:01.000Z",
         "input": "a title for this chat", "output": "Greetings"},
    ],
}  # fmt: skip


def test_a_langfuse_trace_is_the_model_call_that_gave_its_answer():
    row, reader = read(TRACE)
    assert reader.format == "langfuse"
    assert [message.role for message in row.messages] == ["system", "user"]
    assert (row.response, row.model, row.user, row.session_id) == ("hello", "gpt", "ann", "s1")
    assert row.ts == datetime(2025, 5, 1, 10, tzinfo=UTC)
    assert [(one.kind, one.value, one.text, one.user) for one in row.feedback] == [
        ("thumbs", -1, None, None),
        ("comment", None, "rude", None),
        ("rating", 2, None, "rev"),
        ("correction", None, "hello there", None),
    ]
    assert row.feedback[2].ts == datetime(2025, 5, 2, 10, tzinfo=UTC)
    assert reader.ignored == {"score helpful of an evaluator": 1, "score toxicity": 1}


def test_a_langfuse_download_and_a_trace_without_its_calls_are_the_same_interaction():
    trace = {key: value for key, value in TRACE.items() if key != "observations"}
    downloaded, _ = read({"trace": trace, "observations": TRACE["observations"]})
    assert downloaded == read(TRACE)[0]
    bare, _ = read(trace)
    assert ([message.model_dump() for message in bare.messages], bare.response) == ([USER], "hello")


def test_what_a_trace_shows_counts_where_no_call_gave_it():
    row, _ = read({**TRACE, "output": "Hello!"})
    assert (len(row.messages), row.response, row.model) == (1, "Hello!", "titles")
    unreadable, _ = read({**TRACE, "input": {"a": 1, "b": 2}})
    assert (unreadable.messages[0].content, unreadable.response) == ("a title for this chat", "Greetings")


def test_rows_of_langfuse_table_and_blob_exports():
    table = {"id": "t", "timestamp": "2025-05-01T10:00:00Z", "userId": None, "sessionId": "s", "bookmarked": False,
             "input": '{"messages": [{"role": "user", "content": "hi"}]}', "output": '"hello"', "tags": ["rating"],
             "thumbs": [1], "similarity": [0.4], "unused": None}  # fmt: skip
    row, _ = read(table)
    assert (row.messages[0].content, row.response, row.user) == ("hi", "hello", "anonymous:s")
    assert [(one.kind, one.value) for one in row.feedback] == [("thumbs", 1)]
    call = {"id": "o", "trace_id": "t", "type": "GENERATION", "start_time": "2025-05-01 10:00:00.500000",
            "user_id": "ann", "session_id": "s", "provided_model_name": "gpt", "input": json.dumps([USER]),
            "output": json.dumps({"choices": [{"message": HELLO}]})}  # fmt: skip
    row, _ = read(call)
    assert (row.ts, row.response, row.model) == (datetime(2025, 5, 1, 10, 0, 0, 500000, UTC), "hello", "gpt")
    assert refused({**call, "type": "SPAN"})[0] == "type"


def test_a_langfuse_trace_without_text_says_so():
    assert refused({**TRACE, "observations": [], "input": None})[0] == "input"
    assert refused({**TRACE, "observations": [], "output": ""})[0] == "input"
    call = {"type": "GENERATION", "input": [USER], "output": {"role": "assistant", "content": None, "tool_calls": [1]}}
    assert refused({**TRACE, "output": None, "observations": [call]})[0] == "answer.tool_calls"


# --- MLflow ---------------------------------------------------------------------------------------------------------


def span(name, parent, inputs, outputs, kind, start):
    attributes = {"mlflow.spanType": kind, "mlflow.spanInputs": inputs, "mlflow.spanOutputs": outputs}
    attributes["mlflow.traceRequestId"] = "tr-8c19ca2b5d01f0d9115febe2da7e1ce0"
    return {
        "trace_id": "jBnKK10B8NkRX+vi2n4c4A==", "span_id": "4EYOdjujtew=" if parent is None else "QgQnAcjO28k=",
        "parent_span_id": parent, "name": name, "start_time_unix_nano": start, "end_time_unix_nano": start + 9,
        "events": [], "status": {"code": "STATUS_CODE_OK", "message": ""}, "links": [],
        "attributes": {key: json.dumps(value) for key, value in attributes.items()},
    }  # fmt: skip


def assessment(name, kind, value, source="HUMAN", **more):
    return {
        "assessment_id": f"a-{name}", "assessment_name": name, "trace_id": "tr-1", "valid": True, kind: value,
        "source": {"source_type": source, "source_id": "bob" if source == "HUMAN" else "judge"},
        "create_time": "2025-05-02T10:00:00Z", "last_update_time": "2025-05-02T10:00:00Z", **more,
    }  # fmt: skip


MLFLOW = {
    "info": {
        "trace_id": "tr-1",
        "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "1"}},
        "request_time": "2025-05-01T10:00:00.123Z",
        "state": "OK",
        "trace_metadata": {"mlflow.trace.user": "ann", "mlflow.trace.session": "s1", "mlflow.user": "root"},
        "tags": {"mlflow.traceName": "predict"},
        "request_preview": '{"question": "hi"}',
        "response_preview": '"hello"',
        "execution_duration_ms": 89,
        "assessments": [
            assessment("thumbs", "feedback", {"value": True}, rationale="kind"),
            assessment("expected_response", "expectation", {"value": "hello you"}),
            assessment(
                "expected", "expectation",
                {"serialized_value": {"serialization_format": "JSON_FORMAT", "value": '{"a": 1}'}},
            ),
            assessment("correct", "feedback", {"value": False}, source="LLM_JUDGE"),
        ],
    },
    "data": {
        "spans": [
            span("predict", None, {"question": "hi"}, "hello", "UNKNOWN", 1_746_093_600_000_000_000),
            span(
                "llm", "4EYOdjujtew=", {"messages": [{"role": "system", "content": "be nice"}, USER], "model": "gpt"},
                {"model": "gpt-4", "choices": [{"index": 0, "message": HELLO, "finish_reason": "stop"}]},
                "CHAT_MODEL", 1_746_093_600_000_000_001,
            ),
        ]
    },
}  # fmt: skip


def test_an_mlflow_trace():
    row, reader = read(MLFLOW)
    assert reader.format == "mlflow"
    assert [message.role for message in row.messages] == ["system", "user"]
    assert (row.response, row.model, row.user, row.session_id) == ("hello", "gpt-4", "ann", "s1")
    assert row.ts == datetime(2025, 5, 1, 10, 0, 0, 123000, UTC)
    assert [(one.kind, one.value, one.text, one.user) for one in row.feedback] == [
        ("thumbs", 1, None, "bob"),
        ("comment", None, "kind", "bob"),
        ("correction", None, "hello you", "bob"),
        ("correction", None, '{"a": 1}', "bob"),
    ]
    assert reader.ignored == {"assessment correct by LLM_JUDGE": 1}


def test_rows_of_mlflow_search_traces():
    row = {
        "trace_id": "tr-1", "trace": json.dumps(MLFLOW), "request_time": 1746093600123, "state": "OK",
        "request": {"question": "hi"}, "response": "hello", "spans": MLFLOW["data"]["spans"],
        "trace_metadata": MLFLOW["info"]["trace_metadata"], "assessments": MLFLOW["info"]["assessments"],
    }  # fmt: skip
    assert read(row)[0] == read(MLFLOW)[0]
    columns, _ = read({key: value for key, value in row.items() if key != "trace"})
    assert columns == read(MLFLOW)[0]
    plain, _ = read({key: value for key, value in row.items() if key not in {"trace", "spans"}})
    assert ([message.content for message in plain.messages], plain.response, plain.user) == (["hi"], "hello", "ann")


def test_the_fixture_is_what_the_installed_mlflow_writes():
    from mlflow.entities import Trace

    written = json.loads(Trace.from_dict(copy.deepcopy(MLFLOW)).to_json())
    assert read(written)[0] == read(MLFLOW)[0]


# --- all ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("hi", ["hi"]),
        ([USER, HELLO, USER], ["hi", "hello", "hi"]),
        ({"messages": [USER], "system": "s"}, ["s", "hi"]),
        ({"input": "hi", "instructions": "s", "model": "m"}, ["s", "hi"]),
        ({"args": [], "kwargs": {"question": "hi"}}, ["hi"]),
        ({"args": ["hi"], "kwargs": {}}, ["hi"]),
        ([[{"type": "human", "content": "hi"}]], ["hi"]),
        ({"topic": "hi"}, ["hi"]),
        ('["not messages", 1]', None),
        ({"a": "x", "b": "y"}, None),
        ({}, None),
        (7, None),
        ("  ", None),
    ],
)
def test_prompts_in_the_shapes_in_which_they_are_logged(value, said):
    found = prompt_of(value)
    assert (found and [message["content"] for message in found]) == said


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("hello", "hello"),
        ('"hello"', "hello"),
        ('{"intent":"refund"}', '{"intent":"refund"}'),
        ({"intent": "refund"}, '{"intent": "refund"}'),
        (HELLO, "hello"),
        ([USER, HELLO], "hello"),
        ({"messages": [USER, HELLO]}, "hello"),
        ({"choices": [{"message": HELLO}]}, "hello"),
        ({"choices": [{"text": "hello"}]}, "hello"),
        ({"message": HELLO, "done": True}, "hello"),
        ([{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}], "hello"),
        ({"content": [{"type": "text", "text": "hello"}], "role": "assistant"}, "hello"),
        ({"output": "hello"}, "hello"),
        ({"text": "hello", "intent": "x"}, '{"text": "hello", "intent": "x"}'),
        (True, "true"),
        (None, None),
        ("", None),
    ],
)
def test_answers_in_the_shapes_in_which_they_are_logged(value, text):
    assert answer_of(value) == text


@pytest.mark.parametrize(
    ("name", "value", "made"),
    [
        ("thumbs", True, ("thumbs", 1)),
        ("user_feedback", 0, ("thumbs", -1)),
        ("thumbs_down", 1, ("thumbs", -1)),
        ("UserFeedback", "positive", ("thumbs", 1)),
        ("is-helpful", "no", ("thumbs", -1)),
        ("feedback", 0.5, None),
        ("rating", 4.5, ("rating", 4.5)),
        ("user rating", 9, None),
        ("stars", True, None),
        ("ground truth", "x", ("correction", "x")),
        ("ground truth", "", None),
        ("expected", [1], ("correction", "[1]")),
        ("correct language", True, None),
        ("score", 1, None),
        (None, 1, None),
    ],
)
def test_only_names_that_say_it_make_a_reaction(name, value, made):
    found = reaction(name, value)
    assert (found and (found["kind"], found.get("value", found.get("text")))) == made


def test_the_first_good_line_decides_for_the_file():
    reader = InteractionReader(Reading(), "triage")
    for bad in (b'{"a": 1}', b'{"messages": []}', json.dumps({**TRACE, "output": None, "observations": []}).encode()):
        with pytest.raises(RefusedError):
            reader.read(bad)
    assert reader.format is None
    reader.read(json.dumps({"messages": [USER, HELLO]}).encode())
    assert reader.format == "openai"
    with pytest.raises(RefusedError):
        reader.read(json.dumps(TRACE).encode())


def test_users_from_a_field_a_flag_or_nowhere():
    line = {"messages": [USER, HELLO], "metadata": {"customer": {"id": 17}}}
    assert read(line, user_field="metadata.customer.id", user="team")[0].user == "17"
    assert read(line, user_field="metadata.nobody", user="team")[0].user == "team"
    alone = read(line)[0].user
    assert alone.startswith("anonymous:")
    assert alone == read(line)[0].user != read({"messages": [USER, USER, HELLO]})[0].user
    assert read(TRACE, user="team")[0].user == "ann"
    assert read(line, consent=["training"])[0].consent == ["training"]


def test_purposes():
    assert read_purposes(None) is None
    assert read_purposes("none") == []
    assert read_purposes("evaluation, training") == ["training", "evaluation"]
    with pytest.raises(UsageError, match="trainig"):
        read_purposes("trainig")


@settings(max_examples=300, deadline=None)
@given(data=st.data(), name=st.sampled_from(list(FORMATS)))
def test_no_shape_of_data_is_more_than_refused(data, name):
    """Good lines with one value replaced, or lines of nothing but noise."""
    samples = {
        "openai": {"messages": [USER, HELLO], "input": {"messages": [USER]}},
        "langfuse": TRACE,
        "mlflow": MLFLOW,
        "flywheel": {"messages": [USER], "response": "x", "user": "u", "consent": []},
    }
    line = copy.deepcopy(samples[name])
    at = line
    while isinstance(at, dict | list) and at:
        key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        if not isinstance(at[key], dict | list) or data.draw(st.booleans()):
            at[key] = data.draw(JSON)
            break
        at = at[key]
    for format_ in (name, "auto"):
        for value in (line, data.draw(JSON)):
            with contextlib.suppress(RefusedError):
                read(value, format=format_, user_field="a.b")
