"""Shares of looks from lists that were partly random: found although the best items stand at the top."""

import numpy as np
import pytest

from flywheel.statistics.examination import LEAST, examination
from flywheel.statistics.place_chances import place_chances
from flywheel.statistics.policies import Policy

LOOKS = np.array([1.0, 0.6, 0.4, 0.2])


def drawn(lists, policy, seed=0):
    """Places, acts and weights of lists whose scores know which items people like."""
    rng = np.random.default_rng(seed)
    liking = rng.uniform(0.1, 0.9, size=(lists, 4))
    scores = 4 * liking
    explores = rng.random((lists, 1)) < policy.epsilon
    noisy = np.where(explores, 0.0, scores / policy.temperature) + rng.gumbel(size=scores.shape)
    order = np.argsort(-noisy, axis=1)
    chances = place_chances(scores, order, policy, draws=64)
    acted = rng.random(order.shape) < LOOKS * np.take_along_axis(liking, order, axis=1)
    return np.tile(np.arange(4), lists), acted.ravel(), (1 / (4 * chances)).ravel()


def test_looks_are_found_and_not_mistaken_for_liking():
    places, acted, weights = drawn(20_000, Policy(0.5, 0.2))
    found = examination(places, acted, weights)
    assert found.known
    assert found.shares == pytest.approx(LOOKS, abs=0.06)
    naive = examination(places, acted, np.ones_like(weights)).shares
    assert naive[3] < 0.12, "without the chances what stands below seems to be looked at less than it is"


def test_shares_do_not_grow_and_never_vanish():
    places = np.repeat([0, 1, 2], 200)
    acted = np.concatenate([np.arange(200) < count for count in (100, 20, 60)])
    found = examination(places, acted, np.ones(600))
    assert found.shares == pytest.approx([1.0, 0.4, 0.4])
    nobody = examination(np.repeat([0, 1], 200), np.arange(400) < 100, np.ones(400))
    assert nobody.shares == [1.0, LEAST]


def test_with_few_acts_nothing_is_concluded():
    found = examination(np.repeat([0, 1], 20), np.arange(40) < 15, np.ones(40))
    assert (found.known, found.shares) == (False, [1.0, 1.0])
    assert examination(np.array([], dtype=int), np.array([], dtype=bool), np.array([])).shares == [1.0]
    one_row = examination(np.zeros(1_000, dtype=int), np.arange(1_000) < 500, np.where(np.arange(1_000) == 0, 1e6, 1.0))
    assert not one_row.known, "one weight that outweighs all others is one act"


def test_places_below_the_last_known_one_are_like_it():
    found = examination(
        np.repeat([0, 2], 100), np.concatenate([np.arange(100) < 80, np.arange(100) < 40]), np.ones(200)
    )
    assert found.at(np.array([0, 1, 2, 9])) == pytest.approx([1.0, 0.75, 0.5, 0.5])
