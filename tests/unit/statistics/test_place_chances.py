"""Chances of shown items at their places, against exact sums and against what the gateway logs."""

import itertools
import random

import numpy as np
import pytest

from flywheel.statistics.place_chances import place_chances
from flywheel.statistics.plackett_luce import draw_ranking, position_table
from flywheel.statistics.policies import Policy


def test_they_are_the_exact_ones_but_for_the_noise_of_the_draws():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(6, 6))
    shown = np.array([rng.permutation(6)[:4] for _ in scores])
    exact = np.array([
        [position_table(row.tolist(), 0.7, places=4)[place][item] for place, item in enumerate(order)]
        for row, order in zip(scores, shown, strict=True)
    ])  # fmt: skip
    for epsilon in (0.0, 0.2):
        found = place_chances(scores, shown, Policy(0.7, epsilon), draws=20_000)
        assert found == pytest.approx(epsilon / 6 + (1 - epsilon) * exact, abs=0.01)
    coarse = place_chances(scores, shown, Policy(0.7, 0.0))
    assert np.abs(coarse - exact).max() < 0.12, "a few draws are near"


def test_uniform_and_greedy_lists_are_exact():
    shown = np.array([[1, 0]])
    assert place_chances(np.array([[1.0, 2.0, 2.0]]), shown, Policy(1.0, 1.0)) == pytest.approx(1 / 3)
    assert place_chances(np.array([[1.0, 2.0, 2.0]]), shown, Policy(0.0, 0.0)).tolist() == [[0.5, 0.0]]
    assert place_chances(np.array([[1.0, 2.0, 3.0]]), np.array([[2, 0]]), Policy(0.0, 0.3)).tolist() == [
        [pytest.approx(0.1 + 0.7), pytest.approx(0.1)]
    ]


def test_scores_far_apart_are_no_division_by_zero():
    scores = np.array([[0.0, -2_000.0, -4_000.0]])
    assert place_chances(scores, np.array([[0, 1, 2]]), Policy(1.0, 0.0)).tolist() == [[1.0, 1.0, 1.0]]
    assert place_chances(scores, np.array([[2, 1, 0]]), Policy(1.0, 0.1)) == pytest.approx(
        np.array([[1 / 30, 0.9 + 1 / 30, 1 / 30]])
    )


@pytest.mark.parametrize("cells", [1, 10_000])
def test_how_many_lists_go_together_changes_no_list_much(cells, monkeypatch):
    monkeypatch.setattr("flywheel.statistics.place_chances.CELLS", cells)
    scores = np.tile([0.0, 1.0, 2.0, 3.0], (8, 1))
    found = place_chances(scores, np.tile([3, 2, 1], (8, 1)), Policy(1.0, 0.0), draws=500)
    assert np.ptp(found, axis=0).max() < 0.15
    assert found.mean(axis=0)[0] == pytest.approx(position_table([0.0, 1.0, 2.0, 3.0], 1.0, places=1)[0][3])


def test_they_agree_with_what_the_gateway_logs_where_it_does():
    policy, rng = Policy(1.0, 0.1), random.Random(3)
    scores = [0.3, -0.2, 1.1, 0.8, -1.0]
    for _ in itertools.repeat(None, 5):
        drawn = draw_ranking(scores, policy, shown=5, rng=rng)
        found = place_chances(np.array([scores]), np.array([drawn.order]), policy, draws=4_000)
        assert found[0] == pytest.approx(drawn.position_propensities, abs=0.02)
