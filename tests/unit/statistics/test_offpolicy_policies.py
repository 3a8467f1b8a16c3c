"""The vectorised chances are those of the scalar code that serves."""

import math

import numpy as np
import pytest

from flywheel.statistics.offpolicy_places import place_chances
from flywheel.statistics.offpolicy_policies import choice_chances, prefix_log_chances
from flywheel.statistics.plackett_luce import position_propensities, position_table, prefix_log_propensities
from flywheel.statistics.policies import GREEDY, UNIFORM, Policy, probabilities

POLICIES = [GREEDY, UNIFORM, Policy(1.0), Policy(0.2, 0.1), Policy(0.0, 0.3), Policy(1e-6, 0.0), Policy(50.0, 0.5)]


def ragged(rng, rows=30, most=6, ties=True):
    """Scores with rows of different lengths, some of them with ties."""
    scores = rng.normal(size=(rows, most)) * rng.choice([0.1, 1, 20], size=(rows, 1))
    if ties:
        scores[::3] = np.round(scores[::3])
    there = np.arange(most) < rng.integers(1, most + 1, size=(rows, 1))
    return scores, there


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_choices(policy):
    scores, there = ragged(np.random.default_rng(0))
    found = choice_chances(np.where(there, scores, np.nan), policy, there)
    for row, known, chances in zip(scores, there, found, strict=True):
        assert chances[known] == pytest.approx(probabilities(row[known].tolist(), policy), abs=1e-14)
        assert not chances[~known].any()


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_prefixes_of_lists(policy):
    rng = np.random.default_rng(1)
    scores, there = ragged(rng)
    counts = there.sum(axis=1)
    order = np.full((len(scores), 4), -1)
    for at, count in enumerate(counts):
        shown = rng.permutation(count)[: rng.integers(1, 5)]
        if policy.epsilon == 0 and policy.temperature == 0:  # anything but the best has no chance
            shown = np.argsort(-scores[at, :count], kind="stable")[: len(shown)]
        order[at, : len(shown)] = shown
    found = prefix_log_chances(scores, policy, order, there)
    for at, count in enumerate(counts):
        shown = order[at][order[at] >= 0].tolist()
        wanted = prefix_log_propensities(scores[at, :count].tolist(), policy, shown)
        assert found[at, : len(shown)] == pytest.approx(wanted, rel=1e-12, abs=1e-12)
        assert (found[at, len(shown) :] == found[at, len(shown) - 1]).all()


def test_a_list_without_a_chance_is_impossible_and_not_nan():
    assert prefix_log_chances(np.array([[1.0, 0.0]]), GREEDY, np.array([[1, 0]])).tolist() == [[-math.inf, -math.inf]]


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_places_are_those_of_the_sum_over_sets(policy):
    rng = np.random.default_rng(2)
    scores, there = ragged(rng, rows=25)
    order = np.full((len(scores), 4), -1)
    for at, count in enumerate(there.sum(axis=1)):
        shown = rng.permutation(count)[:4]
        order[at, : len(shown)] = shown
    found = place_chances(scores, policy, order, there)
    for at, count in enumerate(there.sum(axis=1)):
        known, shown = scores[at, :count].tolist(), order[at][order[at] >= 0].tolist()
        diagonal = position_propensities(known, policy, shown)
        assert np.diagonal(found[at])[: len(shown)] == pytest.approx(diagonal, abs=1e-9)
        if policy.temperature > 0 and policy.epsilon == 0:
            table = np.array(position_table(known, policy.temperature, places=len(shown)))
            assert found[at, : len(shown), : len(shown)] == pytest.approx(table[:, shown].T, abs=1e-9)
        assert not found[at, len(shown) :].any()
        assert not found[at, :, len(shown) :].any()


def test_places_of_a_long_list_sum_to_one_and_agree_with_draws():
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(1, 25)) * 2
    every = place_chances(scores, Policy(0.7, 0.1), np.arange(25)[None])[0]
    assert every.sum(axis=0) == pytest.approx(np.ones(25), abs=1e-9)
    assert every.sum(axis=1) == pytest.approx(np.ones(25), abs=1e-9)
    draws = 40_000
    utility = np.where(rng.random((draws, 1)) < 0.1, 0.0, scores / 0.7) + rng.gumbel(size=(draws, 25))
    place = np.argsort(np.argsort(-utility, axis=1), axis=1)
    item = int(np.argsort(-scores[0])[3])
    seen = np.bincount(place[:, item], minlength=25) / draws
    assert np.abs(seen - every[item]).max() < 4.5 * math.sqrt(0.25 / draws)


def test_scores_far_apart_keep_small_chances():
    chances = place_chances(np.array([[0.0, -20.0, -500.0]]), Policy(1.0), np.array([[0, 1, 2]]))[0]
    assert chances[1, 0] == pytest.approx(math.exp(-20), rel=1e-6)
    assert chances[2, 2] == pytest.approx(1, abs=1e-9)
