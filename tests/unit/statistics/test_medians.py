import math

import numpy as np
import pytest

from flywheel.statistics.medians import median_ratio


def test_the_ratio_is_that_of_numpys_medians():
    rng = np.random.default_rng(1)
    before = rng.lognormal(0, 1, 401)
    after = before * rng.lognormal(0.2, 0.3, 401)
    found = median_ratio(after, before, resamples=400)
    assert found.mean == pytest.approx(np.median(after) / np.median(before), abs=1e-12)
    assert found.low < found.mean < found.high


def test_the_interval_covers_the_true_ratio_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    hits = 0
    for seed in range(100):
        before = rng.lognormal(0, 0.5, 120)
        after = rng.lognormal(math.log(1.3), 0.5, 120)
        found = median_ratio(after, before, resamples=200, seed=seed)
        hits += found.low <= 1.3 <= found.high
    assert 0.88 <= hits / 100 <= 0.99


def test_rows_of_one_person_are_one_draw():
    before, after = np.arange(1.0, 41), np.arange(1.0, 41) * np.repeat([1, 2, 1, 2], 10)
    alone = median_ratio(after, before, resamples=500)
    grouped = median_ratio(after, before, clusters=np.repeat(range(4), 10).tolist(), resamples=500)
    assert grouped.clusters == 4
    assert grouped.high - grouped.low > alone.high - alone.low
    one = median_ratio(after, before, clusters=["a"] * 40)
    assert (one.low, one.high) == (-math.inf, math.inf)


def test_nothing_to_divide_by_is_no_number():
    assert not math.isfinite(median_ratio([1, 2, 3], [0, 0, 0]).mean)


def test_equal_seeds_give_equal_intervals_and_bad_shapes_are_refused():
    values = np.arange(1.0, 30)
    assert median_ratio(values, values[::-1], seed=3) == median_ratio(values, values[::-1], seed=3)
    with pytest.raises(ValueError, match="as many numbers"):
        median_ratio([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="as many numbers"):
        median_ratio([], [])
