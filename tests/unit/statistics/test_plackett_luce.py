"""Ranked lists: logged chances against enumeration of all lists, and against how often each is drawn."""

import itertools
import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from flywheel.statistics.plackett_luce import (
    EXACT_ITEMS,
    draw_ranking,
    given_ranking,
    position_propensities,
    position_table,
    prefix_log_propensities,
)
from flywheel.statistics.policies import GREEDY, UNIFORM, Policy, softmax

some_scores = st.lists(st.sampled_from([-2.0, -0.5, 0.0, 0.0, 1.0, 3.0]), min_size=1, max_size=5)
wild_scores = st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=6)
policies = st.builds(Policy, st.one_of(st.just(0.0), st.floats(1e-6, 1e6)), st.one_of(st.just(0.0), st.floats(0, 1)))


def textbook(scores, policy, prefix):
    """P(prefix) straight from the definition, for tame scores."""
    ranked, left = 1.0, list(range(len(scores)))
    for index in prefix:
        ranked *= softmax([scores[i] for i in left], policy.temperature)[left.index(index)]
        left.remove(index)
    uniform = math.factorial(len(left)) / math.factorial(len(scores))
    return policy.epsilon * uniform + (1 - policy.epsilon) * ranked


@settings(deadline=None)
@given(some_scores, st.sampled_from([0.0, 0.2, 1.0, 5.0]), st.sampled_from([0.0, 0.1, 1.0]), st.data())
def test_the_chance_of_every_prefix_is_that_of_the_definition(scores, temperature, epsilon, data):
    policy = Policy(temperature, epsilon)
    prefix = data.draw(st.permutations(range(len(scores))))[: data.draw(st.integers(1, len(scores)))]
    logs = prefix_log_propensities(scores, policy, prefix)
    expected = [textbook(scores, policy, prefix[: place + 1]) for place in range(len(prefix))]
    assert [math.exp(log) for log in logs] == pytest.approx(expected, rel=1e-9, abs=1e-300)


@settings(deadline=None)
@given(wild_scores, policies)
def test_the_chances_of_all_lists_sum_to_one_whatever_the_scores(scores, policy):
    places = min(3, len(scores))
    total = math.fsum(
        math.exp(prefix_log_propensities(scores, policy, order)[-1])
        for order in itertools.permutations(range(len(scores)), places)
    )
    assert total == pytest.approx(1, abs=1e-9)


@settings(deadline=None)
@given(wild_scores, policies, st.integers(0, 2**64 - 1), st.data())
def test_a_drawn_list_is_possible_and_its_numbers_are_in_range(scores, policy, seed, data):
    shown = data.draw(st.integers(1, len(scores)))
    drawn = draw_ranking(scores, policy, shown=shown, rng=random.Random(seed))
    assert len(drawn.order) == len(set(drawn.order)) == shown
    logs = [0.0, *drawn.prefix_log_propensities]
    assert all(-math.inf < low <= high for high, low in itertools.pairwise(logs)), "a longer prefix is never likelier"
    chances = [chance for chance in drawn.position_propensities if chance is not None]
    assert all(math.exp(logs[-1]) * (1 - 1e-9) <= chance <= 1 + 1e-9 for chance in chances)


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), policies, st.integers(0, 2**64 - 1))
def test_the_same_seed_gives_the_same_list(scores, policy, seed):
    one, two = (draw_ranking(scores, policy, shown=len(scores), rng=random.Random(seed)) for _ in range(2))
    assert one == two


CASES = [
    ([0.0, 1.0, 2.0], Policy(1.0), 3),
    ([0.0, 1.0, 2.0, 2.0], Policy(0.7, 0.2), 2),
    ([1.0, 1.0, 0.0], GREEDY, 3),
    ([5.0, 1.0, 0.0], Policy(0.0, 0.3), 3),
    ([1e18, 1e18, -1e18, -1e18], Policy(1.0), 4),  # the noise would vanish beside such scores
    ([1.0, 2.0, 3.0, 4.0], UNIFORM, 2),
]


@pytest.mark.parametrize(("scores", "policy", "shown"), CASES)
def test_logged_chances_are_how_often_a_list_is_drawn(scores, policy, shown):
    rng, n = random.Random(7), 6_000
    draws = [draw_ranking(scores, policy, shown=shown, rng=rng) for _ in range(n)]
    seen = Counter(tuple(draw.order) for draw in draws)
    logged = {tuple(draw.order): math.exp(draw.prefix_log_propensities[-1]) for draw in draws}
    possible = [order for order in logged if logged[order] * n > 5]
    assert math.fsum(logged.values()) == pytest.approx(1, abs=0.02), "what was drawn is nearly all that is possible"
    observed = [seen[order] for order in possible]
    mass = math.fsum(logged[order] for order in possible)
    assert chisquare(observed, [logged[order] / mass * sum(observed) for order in possible]).pvalue > 1e-6


@pytest.mark.parametrize(("scores", "policy", "shown"), CASES)
def test_chances_of_items_at_places_are_how_often_they_stand_there(scores, policy, shown):
    rng, n = random.Random(11), 6_000
    seen, logged = Counter(), {}
    for _ in range(n):
        drawn = draw_ranking(scores, policy, shown=shown, rng=rng)
        for place, index in enumerate(drawn.order):
            seen[place, index] += 1
            logged[place, index] = drawn.position_propensities[place]
    for key, count in seen.items():
        deviation = math.sqrt(max(logged[key] * (1 - logged[key]), 1e-12) / n)
        assert abs(count / n - logged[key]) <= 5.5 * deviation + 1e-9, key


@given(some_scores, st.sampled_from([0.0, 0.3, 2.0]))
def test_every_place_has_one_item_and_every_item_one_place(scores, temperature):
    table = position_table(scores, temperature, places=len(scores))
    for line in [*table, *zip(*table, strict=True)]:
        assert math.fsum(line) == pytest.approx(1)


def test_below_the_top_of_a_long_list_places_are_not_summed_up():
    scores = [float(index) for index in range(EXACT_ITEMS + 1)]
    drawn = draw_ranking(scores, Policy(2.0, 0.1), shown=4, rng=random.Random(1))
    assert drawn.position_propensities[1:] == [None] * 3
    top = softmax(scores, 2.0)[drawn.order[0]]
    assert drawn.position_propensities[0] == pytest.approx(0.1 / len(scores) + 0.9 * top)
    assert position_propensities(scores, UNIFORM, [3, 4]) == [1 / len(scores)] * 2
    assert position_propensities(scores, GREEDY, [6, 5, 0]) == [1.0, 1.0, 0.0]


def test_greedy_is_the_sorted_list_and_the_limit_of_small_temperatures():
    scores = [0.3, 0.9, -4.0, 0.5]
    for policy in (GREEDY, Policy(1e-6)):
        drawn = draw_ranking(scores, policy, shown=4, rng=random.Random(3))
        assert drawn.order == [1, 3, 0, 2]
        assert drawn.prefix_log_propensities == [0.0] * 4
        assert drawn.position_propensities == pytest.approx([1.0] * 4)


@given(st.floats(0, 1), st.floats(-9, 9))
def test_the_only_list_is_certain_and_never_more(epsilon, score):
    (log,) = prefix_log_propensities([score], Policy(1.0, epsilon), [0])
    assert -1e-12 < log <= 0


def test_a_list_without_scores_keeps_its_order_for_certain():
    drawn = given_ranking(5, shown=3)
    assert (drawn.order, drawn.prefix_log_propensities) == ([0, 1, 2], [0.0] * 3)
    assert drawn.position_propensities == [1.0] * 3
