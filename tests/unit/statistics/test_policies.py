"""Choice among scored candidates: what is logged as its chance is how often it happens."""

import itertools
import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from flywheel.statistics.policies import GREEDY, UNIFORM, Policy, pick, probabilities, softmax, unusable

score = st.floats(-1e300, 1e300)
scores = st.lists(score, min_size=1, max_size=8)
policies = st.builds(Policy, st.one_of(st.just(0.0), st.floats(1e-6, 1e6)), st.floats(0, 1))


@given(scores, policies)
def test_chances_are_a_distribution_that_never_drops_below_the_explored_share(given_scores, policy):
    chances = probabilities(given_scores, policy)
    assert math.fsum(chances) == pytest.approx(1, abs=1e-12)
    assert all(policy.epsilon / len(chances) * (1 - 1e-12) <= chance <= 1 + 1e-12 for chance in chances)


@given(scores, policies)
def test_a_better_score_never_has_the_smaller_chance(given_scores, policy):
    chances = probabilities(given_scores, policy)
    order = sorted(range(len(chances)), key=lambda index: given_scores[index])
    assert all(chances[low] <= chances[high] + 1e-15 for low, high in itertools.pairwise(order))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([-3.0, -1.0, 0.0, 0.5, 0.5, 2.0]), min_size=2, max_size=5),
       st.sampled_from([0.0, 0.3, 1.0, 10.0]), st.sampled_from([0.0, 0.2, 1.0]), st.integers(0, 2**32))  # fmt: skip
def test_the_logged_chance_is_how_often_it_is_picked(given_scores, temperature, epsilon, seed):
    """A chi-square test at 1e-6: 25 examples give a false alarm once in 40,000 runs."""
    chances, rng, n = probabilities(given_scores, Policy(temperature, epsilon)), random.Random(seed), 5_000
    seen = Counter(pick(chances, rng.random()) for _ in range(n))
    assert all(chances[index] > 0 for index in seen), "what has no chance was picked"
    possible = [index for index, chance in enumerate(chances) if chance * n > 1]
    if len(possible) > 1:
        mass = math.fsum(chances[index] for index in possible)
        observed = [seen[index] for index in possible]
        expected = [chances[index] / mass * sum(observed) for index in possible]
        assert chisquare(observed, expected).pvalue > 1e-6


def test_greedy_is_the_limit_of_the_softmax_and_ties_share():
    given_scores = [1.0, 3.0, 3.0, 2.0]
    assert probabilities(given_scores, GREEDY) == [0, 0.5, 0.5, 0]
    assert softmax(given_scores, 1e-3) == pytest.approx([0, 0.5, 0.5, 0], abs=1e-12)
    assert probabilities(given_scores, Policy(0.0, 0.1)) == pytest.approx([0.025, 0.475, 0.475, 0.025])
    assert probabilities(given_scores, UNIFORM) == [0.25] * 4


def test_softmax_is_that_of_the_textbook():
    assert softmax([0.0, math.log(2), math.log(5)], 1.0) == pytest.approx([1 / 8, 2 / 8, 5 / 8])
    assert softmax([0.0, 2 * math.log(3)], 2.0) == pytest.approx([1 / 4, 3 / 4])


def test_large_scores_do_not_overflow():
    assert softmax([1e300, -1e300, 1e300], 1e-6) == [0.5, 0.0, 0.5]
    assert softmax([1e300, 0.0], 1e300) == pytest.approx([math.e / (1 + math.e), 1 / (1 + math.e)])


@pytest.mark.parametrize(
    ("given_scores", "count", "why"),
    [
        ([1.0, math.nan], 2, "not_finite"),
        ([math.inf, 0.0], 2, "not_finite"),
        ([-math.inf, 0.0], 2, "not_finite"),
        ([1.7e308, 0.0], 2, "not_finite"),
        ([1.0], 2, "wrong_count"),
        ([1.0, 2.0], 2, None),
        ([1e300, -1e300], 2, None),
    ],
)
def test_scores_that_nothing_can_be_chosen_by_are_named(given_scores, count, why):
    assert unusable(given_scores, count) == why


def test_a_number_past_the_sum_picks_the_last_that_is_possible():
    assert pick([0.3, 0.7 - 1e-16, 0.0], 1 - 1e-17) == 1
    assert pick([0.0, 1.0], 0.0) == 1, "what has no chance is not picked at the edge either"


@pytest.mark.parametrize(
    "numbers", [(-1.0, 0.0), (math.nan, 0.0), (math.inf, 0.0), (1.0, -0.1), (1.0, 1.1), (1, math.nan)]
)
def test_what_is_no_policy_is_refused(numbers):
    with pytest.raises(ValueError, match="no policy"):
        Policy(*numbers)
