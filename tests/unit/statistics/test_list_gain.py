"""What another order would have earned, from lists that somebody else ordered."""

import numpy as np
import pytest

from flywheel.statistics.list_gain import list_gain
from flywheel.statistics.place_chances import place_chances
from flywheel.statistics.plackett_luce import position_table
from flywheel.statistics.policies import Policy

LOOKS = np.array([1.0, 0.5, 0.25])
POLICY = Policy(1.0, 0.1)
TASTE = np.array([0.1, 0.2, 0.5, 0.8])


def drawn(scores, rng):
    explores = rng.random((len(scores), 1)) < POLICY.epsilon
    return np.argsort(-(np.where(explores, 0.0, scores) + rng.gumbel(size=scores.shape)), axis=1)[:, :3]


def value(scores):
    """What a list is worth in expectation, exactly."""
    chances = POLICY.epsilon / 4 + (1 - POLICY.epsilon) * np.array(position_table(scores, 1.0, places=3))
    return 0.75 * float(LOOKS @ chances @ TASTE)


BAD, GOOD = [1.5, 1.0, 0.5, 0.0], [0.0, 0.5, 1.0, 1.5]
WAS, WOULD = value(BAD), value(GOOD)


def world(lists, seed):
    """Lists of a ranker that has it the wrong way round, people of five lists each with a mood, and a good ranker."""
    rng = np.random.default_rng(seed)
    units = np.repeat(np.arange(lists // 5), 5)
    mood = rng.uniform(0.5, 1.0, size=lists // 5)[units]
    bad, good = np.tile(BAD, (lists, 1)), np.tile(GOOD, (lists, 1))
    shown = drawn(bad, rng)
    rewards = (rng.random(shown.shape) < LOOKS * TASTE[shown] * mood[:, None]).astype(float)
    logged, other = (place_chances(scores, shown, POLICY) for scores in (bad, good))
    return rewards, logged, other, units


def test_the_gain_of_a_better_order_is_found():
    rewards, logged, other, units = world(20_000, 1)
    found = list_gain(rewards, logged, other, units)
    assert found.logged == pytest.approx(WAS, abs=0.02)
    assert found.other == pytest.approx(WOULD, abs=0.04)
    assert found.low < WOULD - WAS < found.high
    assert found.low > 0
    assert (found.lists, found.units) == (20_000, 4_000)
    assert 2_000 < found.effective < 20_000


def test_intervals_hold_what_they_promise():
    hits = 0
    for seed in range(100):
        rewards, logged, other, units = world(300, seed)
        found = list_gain(rewards, logged, other, units, confidence=0.9)
        hits += found.low <= WOULD - WAS <= found.high
    assert hits >= 82, "90 % of 100; fewer than 82 have a chance of 0.5 %"


def test_the_same_order_gains_nothing_for_certain():
    rewards, logged, _, units = world(500, 2)
    found = list_gain(rewards, logged, logged, units)
    assert (found.gain, found.low, found.high) == pytest.approx((0.0, 0.0, 0.0))
    assert found.effective == pytest.approx(500)


def test_lists_of_different_length_count_as_they_are():
    table = np.array([[1.0, 1.0], [1.0, np.nan]])
    found = list_gain(table, np.full((2, 2), 0.5), np.full((2, 2), 0.5), ["a", "b"])
    assert (found.logged, found.other) == (1.5, 1.5)


def test_one_person_says_nothing_about_others():
    found = list_gain(np.ones((4, 1)), np.full((4, 1), 0.5), np.full((4, 1), 0.9), ["a"] * 4)
    assert (found.low, found.high) == (-np.inf, np.inf)


def test_what_could_not_have_been_otherwise_is_refused():
    with pytest.raises(ValueError, match="not positive"):
        list_gain([[1.0]], [[0.0]], [[0.5]], ["a"])
    with pytest.raises(ValueError, match="one shape"):
        list_gain(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros((0, 2)), [])
