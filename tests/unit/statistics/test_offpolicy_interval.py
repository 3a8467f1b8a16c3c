"""Hall's interval: what it is for symmetric units, which way it leans, and how often it holds."""

import numpy as np
import pytest
from scipy import stats

from flywheel.statistics.offpolicy_interval import mean_interval, shape


def test_without_skewness_it_is_students():
    values = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    found = mean_interval(shape(values), 0.95)
    assert found == pytest.approx(stats.t.interval(0.95, 4, 0.0, stats.sem(values)))
    assert shape(values).tail == np.inf


def test_it_inverts_the_transformation():
    values = np.random.default_rng(0).exponential(size=60) ** 1.5
    found = shape(values)
    assert found.skewness == pytest.approx(stats.skew(values))
    a = found.skewness / found.units**0.5
    for bound, tail in zip(mean_interval(found, 0.9), (0.95, 0.05), strict=True):
        t = (found.mean - bound) / found.error
        assert t + a * t**2 / 3 + a**2 * t**3 / 27 + a / 6 == pytest.approx(stats.t.ppf(tail, 59))


def test_a_long_tail_to_the_right_needs_room_to_the_right():
    found = shape(np.random.default_rng(1).exponential(size=50))
    low, high = mean_interval(found, 0.95)
    assert high - found.mean > 1.2 * (found.mean - low)


def test_it_holds_where_students_does_not():
    rng = np.random.default_rng(2)
    weights = rng.choice([0.0, 20.0], p=[0.95, 0.05], size=(600, 200))  # importance weights of a 5 % canary
    rewards = rng.random((600, 200)) < 0.5
    held = {"hall": 0, "student": 0}
    for values in weights * rewards:
        found = shape(values)
        for name, one in (("hall", found), ("student", found._replace(skewness=0.0))):
            low, high = mean_interval(one, 0.95)
            held[name] += low <= 0.5 <= high
    assert held["hall"] >= 600 * 0.93 - 2.6 * (600 * 0.93 * 0.07) ** 0.5
    assert held["student"] < held["hall"]


def test_how_many_units_make_up_the_tail():
    assert shape(np.array([1.0] * 4 + [0.0] * 996)).tail == pytest.approx(4, rel=0.02)


def test_one_unit_and_equal_units_say_nothing_about_spread():
    assert mean_interval(shape(np.array([0.3])), 0.95) == (-np.inf, np.inf)
    assert shape(np.full(7, 0.1)).error == 0


@pytest.mark.parametrize("confidence", [0, 1, 1.5])
def test_confidence_must_be_a_chance(confidence):
    with pytest.raises(ValueError, match="confidence"):
        mean_interval(shape(np.array([1.0, 2.0])), confidence)
