"""The evaluation benchmark up to the engine: what it asks of both sides, and what it makes of the times."""

import importlib.util
import sys
import time
from pathlib import Path

import pytest

from flywheel.config import FlywheelConfig
from flywheel.inference.generate import Completion

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("evaluation_benchmark", ROOT / "benchmarks" / "evaluation.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(ROOT / "benchmarks"))


def test_both_sides_answer_the_same_prompts_in_turns(bench, tmp_path):
    asked = {"evaluate": [], "engine": []}

    def answer(version, conversations, **_):
        asked["evaluate"] += [messages[-1].content for messages in conversations]
        time.sleep(0.2)
        return [Completion('{"intent":"refund"}', "stop", 9, 4, 1.0) for _ in conversations]

    def direct(cases):
        asked["engine"] += [case.messages[-1].content for case in cases]
        time.sleep(0.2)

    cases = bench.make_cases(40, "triage", 0)
    config = FlywheelConfig.model_validate({"home": str(tmp_path), "evaluation": {"resamples": 100}})
    rows = bench.measure(config, "m", cases, 2, tmp_path, direct=direct, answer=answer)
    assert sorted(asked["evaluate"]) == sorted(asked["engine"])
    assert len(asked["engine"]) == 80
    assert len({case.messages[-1].content for case in cases}) == 40
    assert [row["first"] for row in rows] == ["engine", "evaluate"]
    assert all(row["ratio"] == pytest.approx(row["evaluate"] / row["engine"]) for row in rows)
    assert all(row["ratio"] > 0 for row in rows)


@pytest.mark.parametrize(("ratio", "met"), [(0.95, True), (0.5, False)])
def test_the_target_says_whether_it_is_met_and_else_why_not(bench, ratio, met):
    rows = [{"cases": 10, "ratio": ratio + 0.01 * number} for number in range(4)]
    target = bench.summary(rows, 0)
    assert (target["met"], "why_not" in target) == (met, not met)
    low, high = target["interval"]
    assert low <= target["measured"] <= high
    import results_file

    results_file.Target.model_validate(target)
