"""Planted regressions on live traffic are found in time and refused by the gate; without a judge nothing is promoted.

Two of the seven kinds here, which rules and times find; all seven with six seeds each with FLYWHEEL_LONG=1.
"""

import os

import numpy as np
import pytest
import rollout_verdicts as bench
from rollout_worlds import KINDS, traffic

LONG = os.environ.get("FLYWHEEL_LONG") == "1"
QUICK = {"latency", "injection"}
CASES = [(kind, seed) for kind in KINDS for seed in range(6 if LONG else 1) if LONG or kind.name in QUICK]


@pytest.mark.parametrize(("kind", "seed"), CASES, ids=lambda value: getattr(value, "name", value))
def test_a_planted_regression_is_found_in_time_and_refused(kind, seed):
    row = bench._planted(kind, 5_000 + seed)
    assert row["state"] == "worse"
    assert row["ratio"] <= bench.MOST
    assert row["gate"] == "reject"
    assert row["gate_without_a_judge"] != "promote"


def test_without_a_judge_a_good_candidate_is_not_promoted_either():
    assert bench.gate_says(bench.blind(None, 3, 60)) == "inconclusive"


def test_the_simulated_candidate_is_as_good_as_the_live_model_and_sessions_are_alike():
    source = traffic(None, 1)
    rows = [next(source) for _ in range(1_200)]
    preferences = np.array([float(pair.tags["judge"]) for _, pair in rows])
    assert abs(preferences.mean()) < 0.06
    assert np.mean(preferences != 0) == pytest.approx(bench.RULES.planned_discordant, abs=0.06)
    assert len({row.session_id for row, _ in rows}) < len(rows)


def test_false_alarms_are_counted_after_every_unit():
    values = np.array([[-1.0] * 20 + [1.0] * 200, [0.0] * 220])
    assert bench._ever(-values, 0.05).tolist() == [True, False], "an early alarm counts, whatever comes after"
    packed = bench._packed(np.array([[1.0, 2.0, 3.0]]), np.array([[True, False, True]]))
    assert packed.tolist() == [[1.0, 3.0]]
