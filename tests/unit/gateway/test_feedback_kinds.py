"""What /v1/feedback takes of each kind, before anything is signed or stored."""

import pytest

from flywheel.gateway.kinds import RULES
from flywheel.gateway.problems import ApiProblem
from flywheel.gateway.reactions import feedback_row, read_feedback

INFERENCE = "01a203d6-df35-7332-a27f-6e2b001fe0a6"


def read(**body):
    return read_feedback({"inference_id": INFERENCE, **body})


def wrong(**body):
    with pytest.raises(ApiProblem) as problem:
        read(**body)
    assert problem.value.status == 400
    return problem.value.message


GOOD = [
    ("thumbs", -1, None), ("thumbs", 1, None), ("thumbs", 1, "because"), ("rating", 1, None), ("rating", 4.5, None),
    ("click", None, None), ("click", 0, "the link"), ("copy", None, None), ("copy", 120, None), ("dwell", 0, None),
    ("dwell", 86_400_000, None), ("completion", None, None), ("completion", 0.25, None), ("abandon", None, None),
    ("abandon", 1500, None), ("reprompt", None, None), ("reprompt", None, "again"), ("correction", None, "right"),
    ("comparison", -1, None), ("comparison", 0, "the other answer"), ("comment", None, "fine"),
]  # fmt: skip
BAD = [
    ("thumbs", None, None), ("thumbs", 0, None), ("thumbs", 0.5, None), ("thumbs", 2, None), ("rating", None, None),
    ("rating", 0.9, None), ("rating", 5.1, None), ("click", -1, None), ("click", 1.5, None), ("copy", -1, None),
    ("copy", 1e12, None), ("dwell", None, None), ("dwell", -1, None), ("dwell", 86_400_001, None),
    ("completion", 1.1, None), ("completion", -0.1, None), ("abandon", -1, None), ("reprompt", 1, None),
    ("correction", None, None), ("correction", None, "  "), ("correction", 1, "right"), ("comparison", None, None),
    ("comparison", 0.5, None), ("comment", None, ""), ("comment", 1, "fine"), ("smile", 1, None),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "value", "text"), GOOD)
def test_good_values(kind, value, text):
    row = feedback_row(read(kind=kind, value=value, text=text), flow="f", tenant="t", about=INFERENCE)
    assert (row.kind, row.value, row.text) == (kind, value, text)


@pytest.mark.parametrize(("kind", "value", "text"), BAD)
def test_bad_values_are_named(kind, value, text):
    assert kind in wrong(kind=kind, value=value, text=text) or kind == "smile"


def test_every_kind_is_tried_both_ways():
    assert {kind for kind, _, _ in GOOD} == {kind for kind, _, _ in BAD} - {"smile"} == set(RULES)


def test_what_is_seen_is_implicit_and_what_is_said_is_explicit():
    implicit = {kind for kind, rule in RULES.items() if rule.implicit}
    assert implicit == {"click", "copy", "dwell", "completion", "abandon", "reprompt"}
    assert feedback_row(read(kind="copy"), flow="f", tenant="t", about="x").source == "implicit"
    assert feedback_row(read(kind="comment", text="x"), flow="f", tenant="t", about="x").source == "explicit"


@pytest.mark.parametrize("kind", sorted(RULES))
def test_only_some_kinds_are_about_a_session(kind):
    value, text = next((value, text) for name, value, text in GOOD if name == kind)
    body = {"kind": kind, "value": value, "text": text, "session_id": "s"}
    if RULES[kind].session:
        assert read_feedback(body).session_id == "s"
    else:
        assert "about one answer" in wrong(**body)


@pytest.mark.parametrize(
    "more",
    [
        {"choice_index": -1},
        {"choice_index": 10**30},
        {"value": float("inf")},
        {"value": float("nan")},
        {"items": [{"id": "a", "rank": 10**30}]},
        {"items": [{"id": "a", "rank": -1}]},
        {"items": [{"id": "a", "rank": 1, "shown_ms": float("inf")}]},
        {"items": [{"id": "a" * 257, "rank": 1}]},
        {"items": [{"id": "a", "rank": 1, "clicked": True}]},
        {"items": [{"id": "a", "rank": 1}] * 1001},
        {"text": "\ud800"},
        {"user": "x" * 257},
        {"idempotency_key": ""},
        {"vlaue": 1},
        {"inference_id": "7"},
        {"inference_id": None},
        {"session_id": "s", "choice_index": 1},
        {"session_id": "s", "items": [{"id": "a", "rank": 1}]},
        {"session_id": ""},
    ],
)
def test_what_no_table_could_hold_is_refused(more):
    assert wrong(**{"kind": "thumbs", "value": 1, **more})


def test_a_ranked_list_is_kept_as_it_was_shown():
    items = [{"id": "a", "rank": 0, "shown_ms": 800.0, "action": "click"}, {"id": "b", "rank": 1}]
    row = feedback_row(read(kind="click", value=0, items=items), flow="f", tenant="t", about=INFERENCE)
    assert [item.model_dump(exclude_none=True) for item in row.items] == items


def row_id(tenant="t", about=INFERENCE, **body):
    return feedback_row(read(**body), flow="f", tenant=tenant, about=about).feedback_id


def test_a_statement_said_twice_is_one_and_a_gesture_is_two_without_a_key():
    thumbs = {"kind": "thumbs", "value": 1}
    assert row_id(**thumbs) == row_id(**thumbs, feedback_token="another") == row_id(**thumbs, session_id=None)
    assert row_id(**thumbs) != row_id(kind="thumbs", value=-1)
    assert row_id(**thumbs) != row_id("other", **thumbs)
    assert row_id(kind="click") != row_id(kind="click")
    assert row_id(kind="click", idempotency_key="k") == row_id(kind="click", idempotency_key="k")


def test_a_session_rated_again_through_another_answer_is_the_same():
    body = {"kind": "rating", "value": 4, "session_id": "s"}
    other = "01a203d6-df35-7332-a27f-6e2b001fe0a7"
    assert row_id(about="session:m", **body) == row_id(about="session:m", **{**body, "inference_id": other})
