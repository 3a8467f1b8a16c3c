"""What a run's items become: slices with intervals where there are enough people, tokens, cost, latency."""

import json

import pytest

from flywheel.config import EvaluationConfig, FlywheelConfig
from flywheel.evaluation.slices import length_of, slices_of
from flywheel.evaluation.summary import FEW, summarise
from flywheel.records import EvalResult, Inference, Message

CONFIG = FlywheelConfig(evaluation=EvaluationConfig(resamples=500, price_per_1k_prompt_tokens=1.0,
                                                    price_per_1k_completion_tokens=10.0))  # fmt: skip


def result(n, passed=True, **changes):
    fields = {
        "run_id": "r", "case_id": f"c{n}", "case_version": 1, "suite": "random", "model_version": "m", "answer": "x",
        "passed": passed, "score": float(passed), "latency_ms": float(n), "prompt_tokens": 10, "completion_tokens": 2,
        "subject": f"s{n}",
    }  # fmt: skip
    return EvalResult(**{**fields, **changes})


def test_slices_by_intent_and_by_every_other_group():
    items = [
        result(n, n % 4 != 0, slice="refund" if n < 60 else "rare", slices={"language": "de" if n % 2 else "en"})
        for n in range(70)
    ]
    score = summarise(items, CONFIG, 0)["random"]
    assert {group: list(parts) for group, parts in score.slices.items()} == {
        "intent": ["rare", "refund"], "language": ["de", "en"]}  # fmt: skip
    refund, rare = score.slices["intent"]["refund"], score.slices["intent"]["rare"]
    assert (refund.n, refund.passed, refund.few, rare.few) == (60, 45, False, True)
    assert refund.accuracy.low < 0.75 < refund.accuracy.high
    told = json.loads(json.dumps(score.as_dict()))["slices"]["intent"]
    assert told["rare"]["interval"] is None
    assert told["rare"]["few"]
    assert told["refund"]["interval"][0] == refund.accuracy.low


def test_few_counts_people_not_cases():
    many_of_one = [result(n, slice="a", subject=f"s{n % 5}") for n in range(4 * FEW)]
    assert summarise(many_of_one, CONFIG, 0)["random"].slices["intent"]["a"].few


def test_tokens_cost_and_latency():
    usage = summarise([result(n) for n in range(101)], CONFIG, 0)["random"].usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (1010, 202)
    assert usage.cost == pytest.approx(1.010 + 2.020)
    assert (usage.latency_ms, usage.latency_p95_ms) == (50, 95)


def test_what_was_not_measured_is_none():
    bare = [result(n, latency_ms=None, prompt_tokens=None, completion_tokens=None) for n in range(3)]
    usage = summarise(bare, CONFIG, 0)["random"].usage
    assert (usage.prompt_tokens, usage.cost, usage.latency_ms) == (None, None, None)
    free = summarise([result(1)], FlywheelConfig(), 0)["random"].usage
    assert (free.prompt_tokens, free.cost) == (10, None)
    late = summarise([result(1), result(9999, error="no answer within 60 s")], CONFIG, 0)["random"].usage
    assert late.latency_p95_ms == 1, "how long a failure took says nothing about answers"


@pytest.mark.parametrize(
    ("size", "name"), [(1, "short"), (79, "short"), (80, "medium"), (399, "medium"), (400, "long")]
)
def test_length_is_that_of_the_question_for_captured_and_imported_cases_alike(size, name):
    earlier = [Message(role="system", content="x" * 999), Message(role="user", content="z" * 999)]
    said = [*earlier, Message(role="assistant", content="w" * 999), Message(role="user", content="y" * size)]
    assert length_of(said) == name
    captured = Inference(
        inference_id="i", flow="triage", ts="2026-01-01T00:00:00Z", subject="s", model_version="m", messages=said
    )
    assert slices_of(captured)["length"] == name
