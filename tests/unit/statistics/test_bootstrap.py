import math

import numpy as np
import pytest

from flywheel.statistics import bootstrap
from flywheel.statistics.bootstrap import mean_interval, paired_difference


def test_a_minus_b():
    estimate = paired_difference([True] * 60 + [False] * 40, [False] * 100, resamples=2_000, seed=1)
    assert estimate.mean == pytest.approx(0.6)
    assert 0.48 < estimate.low < 0.55 < 0.65 < estimate.high < 0.72
    assert (estimate.n, estimate.clusters) == (100, 100)


def test_the_interval_is_that_of_the_normal_approximation():
    rng = np.random.default_rng(3)
    a, b = rng.random(800) < 0.8, rng.random(800) < 0.7
    estimate = paired_difference(a, b, seed=2)
    spread = 1.96 * (a.astype(float) - b).std() / math.sqrt(800)
    assert estimate.low == pytest.approx(estimate.mean - spread, abs=0.004)
    assert estimate.high == pytest.approx(estimate.mean + spread, abs=0.004)


def test_counting_kinds_and_drawing_rows_agree(monkeypatch):
    values = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], size=300, p=[0.1, 0.6, 0.3])
    fast = mean_interval(values, seed=4)
    monkeypatch.setattr(bootstrap, "_DRAWS_A_COUNT", 1_000)
    slow = mean_interval(values, seed=4)
    assert fast.mean == slow.mean
    assert fast.low == pytest.approx(slow.low, abs=0.01)
    assert fast.high == pytest.approx(slow.high, abs=0.01)


def test_uneven_clusters_agree_with_the_reference_as_well(monkeypatch):
    rng = np.random.default_rng(1)
    person = rng.integers(0, 60, size=400)
    values = rng.choice([-1.0, 0.0, 1.0], size=400, p=[0.1, 0.6, 0.3])
    drawn = mean_interval(values, clusters=person, seed=4)
    monkeypatch.setattr(bootstrap, "_DRAWS_A_COUNT", 0)
    counted = mean_interval(values, clusters=person, seed=4)
    assert counted.mean == drawn.mean
    assert (counted.low, counted.high) == (pytest.approx(drawn.low, abs=0.005), pytest.approx(drawn.high, abs=0.005))


def test_equal_seeds_equal_intervals_and_chunks_do_not_matter(monkeypatch):
    values = np.random.default_rng(0).normal(size=200)
    one = mean_interval(values, seed=9)
    assert one == mean_interval(values, seed=9)
    assert one != mean_interval(values, seed=10)
    monkeypatch.setattr(bootstrap, "_INDICES", 1_000)
    assert one == mean_interval(values, seed=9)


def test_coverage():
    rng = np.random.default_rng(11)
    hits = 0
    for seed in range(400):
        a, b = rng.random(150) < 0.75, rng.random(150) < 0.65
        estimate = paired_difference(a, b, resamples=500, seed=seed)
        hits += estimate.low <= 0.10 <= estimate.high
    assert 0.91 < hits / 400 < 0.985


def test_clusters_are_resampled_whole():
    rng = np.random.default_rng(5)
    person = np.repeat(np.arange(40), 25)
    values = rng.normal(size=40)[person]  # all rows of a person are alike: 40 facts, not 1,000
    naive, honest = mean_interval(values, seed=1), mean_interval(values, seed=1, clusters=person.tolist())
    assert honest.mean == pytest.approx(naive.mean)
    assert (honest.n, honest.clusters) == (1_000, 40)
    assert (honest.high - honest.low) / (naive.high - naive.low) == pytest.approx(5, rel=0.15)


def test_cluster_labels_can_be_anything_hashable_and_uneven():
    estimate = mean_interval([1, 1, 0, 0, 0, 1], clusters=["a", "a", "b", "b", "b", "c"], resamples=1_000)
    assert estimate.mean == pytest.approx(0.5)
    assert estimate.low == pytest.approx(0.0)
    assert estimate.high == pytest.approx(1.0)
    assert mean_interval([1.0, 2.0, 4.0], clusters=np.array(["a", "b", "c"])).clusters == 3


def test_one_unit_says_nothing():
    assert mean_interval([1.0]).low == -math.inf
    assert mean_interval([1.0, 0.0, 1.0], clusters=["a"] * 3).high == math.inf


def test_no_difference_is_exactly_zero():
    estimate = paired_difference([True, False] * 50, [True, False] * 50)
    assert (estimate.mean, estimate.low, estimate.high) == (0, 0, 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: paired_difference([1, 0], [1]), "differ in length"),
        (lambda: mean_interval([]), "no rows"),
        (lambda: mean_interval([1.0, float("nan")]), "NaN"),
        (lambda: mean_interval([[1.0, 2.0]]), "one row of numbers"),
        (lambda: mean_interval([1, 2], confidence=1.0), "confidence"),
        (lambda: mean_interval([1, 2], resamples=0), "resamples"),
        (lambda: mean_interval([1, 2], clusters=["a"]), "1 cluster labels for 2 rows"),
    ],
)
def test_wrong_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
