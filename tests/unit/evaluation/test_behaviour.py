import pytest

from flywheel.config import EvaluationConfig
from flywheel.evaluation.behaviour import behaviour
from flywheel.records import EvalResult

CONFIG = EvaluationConfig(resamples=300)


def results(version, answers, **fields):
    return [
        EvalResult(**{
            "run_id": version, "case_id": f"c{n:03}", "case_version": 1, "suite": "random", "model_version": version,
            "answer": answer, "passed": True, "score": 1.0, "latency_ms": 10.0 + n, "prompt_tokens": 20,
            "completion_tokens": 4, **fields,
        })
        for n, answer in enumerate(answers)
    ]  # fmt: skip


def test_every_property_is_compared_pair_by_pair():
    live = results("v1", ["short answer"] * 90 + [" "] * 10)
    after = ["a rather longer answer, it is"] * 80 + ["I'm sorry, I can't help with that."] * 20
    candidate = results("v2", after, completion_tokens=16)
    found = behaviour(live, candidate, CONFIG)
    assert set(found) == {"latency", "tokens", "length", "empty", "refusals"}
    assert found["latency"].value == 1.0
    assert (found["tokens"].before, found["tokens"].after, found["tokens"].value) == (24, 36, 1.5)
    assert (found["length"].before, found["length"].after) == (12, 29)
    assert (found["empty"].before, found["empty"].after, found["empty"].value) == (0.1, 0.0, -0.1)
    refusals = found["refusals"]
    assert refusals.value == pytest.approx(0.2)
    assert 0.1 < refusals.low < 0.2 < refusals.high < 0.3


def test_what_was_measured_on_one_side_only_is_left_out():
    live, candidate = results("v1", ["yes"] * 5), results("v2", ["yes"] * 5, latency_ms=None, completion_tokens=None)
    assert set(behaviour(live, candidate, CONFIG)) == {"length", "empty", "refusals"}
    assert behaviour(live, [], CONFIG) == {}


def test_an_answer_that_failed_is_not_an_empty_one():
    live, candidate = results("v1", ["yes"] * 5), results("v2", ["", *["yes"] * 4])
    candidate[0] = candidate[0].model_copy(update={"error": "engine died"})
    found = behaviour(live, candidate, CONFIG)
    assert (found["empty"].n, found["empty"].after) == (4, 0.0)


def test_nothing_to_divide_by_is_not_measured():
    assert "length" not in behaviour(results("v1", [""] * 5), results("v2", ["yes"] * 5), CONFIG)
