"""The shadow's summary."""

from datetime import UTC, datetime

import pytest

from flywheel.records import FunctionCall, ShadowPair, ToolCall
from flywheel.rollout.shadow import summarise


def pair(n: int, **changes) -> ShadowPair:
    fields = {
        "inference_id": f"i{n}", "flow": "triage", "ts": datetime(2026, 1, 1, tzinfo=UTC), "subject": "s",
        "candidate": "m2", "live_version": "m1", "live_answer": '{"a": 1, "b": 2}',
        "candidate_answer": '{"b": 2, "a": 1}', "live_latency_ms": 100.0, "candidate_latency_ms": 150.0,
    }  # fmt: skip
    return ShadowPair(**{**fields, **changes})


def test_counts_agreement_and_medians():
    pairs = [pair(n) for n in range(6)] + [pair(6, candidate_answer='{"a": 2}', candidate_latency_ms=9_000.0)]
    found = summarise(pairs, candidate="m2")
    assert (found.n, found.answered, found.errors, found.error_rate) == (7, 7, 0, 0)
    assert found.agreement == pytest.approx(6 / 7)
    assert (found.live_latency_ms, found.candidate_latency_ms, found.latency_ratio) == (100, 150, 1.5)


def test_text_is_compared_normalised():
    assert summarise([pair(1, live_answer="Yes.", candidate_answer=" yes")], candidate="m2").agreement == 1
    assert summarise([pair(1, live_answer="1", candidate_answer="1.0")], candidate="m2").agreement == 0


def test_missing_and_failed_answers_count_against_the_candidate():
    pairs = [
        pair(1),
        pair(2, candidate_answer=None),
        pair(3, error="timeout"),
        pair(4, candidate_answer=None, error="x"),
    ]
    found = summarise(pairs, candidate="m2", expected=8)
    assert (found.n, found.answered, found.errors) == (8, 1, 7)
    assert found.error_rate == 7 / 8
    assert found.agreement == 1 / 8


def test_a_pair_counts_once_and_only_for_its_candidate():
    assert summarise([pair(1), pair(1), pair(2, candidate="m3")], candidate="m2").n == 1


def test_nothing_measured_is_none_not_zero():
    empty = summarise([], candidate="m2")
    assert (empty.n, empty.error_rate, empty.agreement, empty.latency_ratio) == (0, None, None, None)
    untimed = summarise([pair(1, live_latency_ms=None)], candidate="m2")
    assert untimed.latency_ratio is None
    assert summarise([pair(1, live_latency_ms=0.0)], candidate="m2").latency_ratio is None


def test_answers_that_call_other_tools_do_not_agree():
    def call(key, arguments, name="refund"):
        return ToolCall(id=key, function=FunctionCall(name=name, arguments=arguments))

    live = {"live_answer": "", "candidate_answer": "", "live_tool_calls": [call("a", '{"to": 1, "of": 2}')]}
    tools = [[call("b", '{"of": 2, "to": 1}')], [call("b", '{"of": 3, "to": 1}')], [call("b", "{}", "x")], []]
    rows = [pair(n, **live, candidate_tool_calls=called) for n, called in enumerate(tools)]
    assert summarise(rows, candidate=rows[0].candidate).agreement == 1 / 4
