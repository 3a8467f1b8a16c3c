"""Paired comparison of two models."""

import json
import sys
import types

import numpy as np
import pytest

from flywheel.config import EvaluationConfig
from flywheel.evaluation.compare import compare
from flywheel.records import EvalResult
from flywheel.statistics.bootstrap import Estimate

CONFIG = EvaluationConfig(resamples=2_000)


def result(n: int, passed: bool, model: str, suite: str = "random", **changes) -> EvalResult:
    fields = {
        "run_id": f"r-{model}", "case_id": f"c{n}", "case_version": 1, "suite": suite, "slice": f"g{n % 3}",
        "subject": f"s{n}", "model_version": model, "answer": "", "passed": passed, "score": float(passed),
    }  # fmt: skip
    return EvalResult(**{**fields, **changes})


def test_pairs_fixed_broken_and_slices():
    before = [result(n, n % 2 == 0, "old") for n in range(12)]
    after = [result(n, n != 4, "new") for n in range(12)]
    found = compare(before, after, CONFIG).suites["random"]
    assert (found.n, found.before, found.after) == (12, 0.5, pytest.approx(11 / 12))
    assert found.fixed == sorted(f"c{n}" for n in range(1, 12, 2))
    assert found.newly_broken == ["c4"]
    assert found.gain.mean == pytest.approx(5 / 12)
    assert found.gain.low < found.gain.mean < found.gain.high
    assert found.p_value == pytest.approx(2 * (1 + 7) / 2**7)
    assert {name: (part.n, part.after) for name, part in found.slices.items()}["g1"] == (4, 0.75)
    json.dumps(found.as_dict(), allow_nan=False)


def test_only_shared_cases_count():
    before = [result(n, True, "old") for n in range(10)]
    after = [result(n, True, "new") for n in range(5, 15)] + [result(1, True, "new", case_version=2)]
    found = compare(before, after, CONFIG).suites["random"]
    assert (found.n, found.unpaired) == (5, 11)


def test_suites_are_apart_and_an_absent_one_is_absent():
    before = [result(1, True, "old"), result(2, True, "old", "old-intents")]
    after = [result(1, False, "new"), result(2, True, "new", "old-intents")]
    comparison = compare(before, after, CONFIG, suites=["random", "old-intents", "failures"])
    assert set(comparison.suites) == {"random", "old-intents"}
    assert (comparison.before, comparison.after) == ("old", "new")
    assert compare([], after, CONFIG).suites == {}


def test_people_with_many_cases_widen_the_interval():
    """200 cases of 10 people who all agree with themselves are 10 observations, not 200."""
    rng = np.random.default_rng(0)
    better = rng.random(10) < 0.5

    def both(subject):
        before = [result(n, False, "old", subject=subject(n)) for n in range(200)]
        after = [result(n, bool(better[n % 10]), "new", subject=subject(n)) for n in range(200)]
        gain = compare(before, after, CONFIG).suites["random"].gain
        return gain.high - gain.low

    assert both(lambda n: f"s{n % 10}") > 3 * both(lambda n: f"s{n}")


def test_one_person_alone_gives_no_interval_and_still_valid_json():
    before = [result(n, False, "old", subject="s") for n in range(5)]
    after = [result(n, True, "new", subject="s") for n in range(5)]
    found = compare(before, after, CONFIG).suites["random"]
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["gain"]["interval"] is None


def test_answers_that_a_machine_lost_are_the_worst_case_for_the_candidate():
    """Of two equal models the one that met no broken machine is not better for it."""
    lost = [result(0, False, "old", error="timeout"), result(1, False, "old", error="refused: too long")]
    before = [*lost, result(2, True, "old")]
    suite = compare(before, [result(n, True, "new") for n in range(3)], CONFIG).suites["random"]
    assert (suite.n, suite.failed, suite.before) == (3, 1, pytest.approx(2 / 3))
    assert (suite.fixed, suite.newly_broken) == (["c1"], []), "a refusal is the model's own answer"
    after = [result(n, n != 2, "new", error="timeout" if n == 2 else None) for n in range(3)]
    assert compare(before, after, CONFIG).suites["random"].newly_broken == ["c2"]


def test_a_sequence_may_be_asked_for(monkeypatch):
    """By a stand-in for ``statistics.sequences``: what it is given, and that its interval is taken."""
    asked = {}

    def confidence_sequence(differences, *, confidence, clusters):
        asked.update(differences=differences.tolist(), confidence=confidence, clusters=list(clusters))
        return Estimate(0.25, -0.1, 0.6, 4, 4)

    module = types.ModuleType("flywheel.statistics.sequences")
    module.confidence_sequence = confidence_sequence
    monkeypatch.setitem(sys.modules, "flywheel.statistics.sequences", module)
    before, after = ([result(n, passed, model) for n, passed in enumerate(passes)] for model, passes in
                     (("old", [0, 0, 1, 1]), ("new", [1, 1, 1, 0])))  # fmt: skip
    config = CONFIG.model_copy(update={"interval": "sequence", "confidence": 0.9})
    gain = compare(before, after, config).suites["random"].gain
    assert (gain.low, gain.high) == (-0.1, 0.6)
    assert asked == {"differences": [1, 1, 0, -1], "confidence": 0.9, "clusters": ["s0", "s1", "s2", "s3"]}
