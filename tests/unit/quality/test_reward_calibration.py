import numpy as np
import pytest
from scipy.special import expit

from flywheel.quality.reward_calibration import Interval, calibrate, cross_fitted, expected_error, temperature


def margins_and_wins(n, overconfident=1.0, seed=0):
    """Margins of answer a over b, and whether a won: true log-odds are margin / overconfident."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1.5, n)
    return x * overconfident, (rng.random(n) < expit(x)).astype(float)


def preferred(x, y):
    return np.where(y > 0, x, -x)


def test_true_log_odds_have_slope_one_and_overconfident_ones_less():
    x, y = margins_and_wins(4_000)
    names = [str(i) for i in range(4_000)]
    honest = calibrate(preferred(x, y), clusters=names)
    assert honest.slope.contains(1)
    assert honest.intercept.contains(0)
    assert honest.error < 0.03
    loud = calibrate(preferred(3 * x, y), clusters=names)
    assert not loud.slope.contains(1)
    assert loud.slope.value == pytest.approx(honest.slope.value / 3, rel=1e-3)
    assert loud.error > 0.1
    assert loud.temperature == pytest.approx(3 * honest.temperature, rel=1e-3)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    held = sum(
        calibrate(preferred(*margins_and_wins(300, seed=seed)), clusters=[str(i) for i in range(300)]).slope.contains(1)
        for seed in range(200)
    )
    assert 180 <= held <= 199


def test_equal_prompts_widen_the_interval():
    x, y = margins_and_wins(100)
    once = calibrate(preferred(x, y), clusters=[str(i) for i in range(100)])
    nine = calibrate(
        np.repeat(preferred(x, y), 9), clusters=[str(i // 9) for i in range(900)]
    )  # the same answers nine times are no more evidence
    assert nine.slope.high - nine.slope.low > 0.7 * (once.slope.high - once.slope.low)


def test_a_perfect_ranking_and_too_few_pairs_stay_finite():
    assert np.isfinite(calibrate(np.linspace(1, 2, 50), clusters=["a"] * 25 + ["b"] * 25).slope.value)
    few = calibrate([1.0, -1.0], clusters=["a", "b"])
    assert (few.temperature, few.slope.low) == (1.0, None)
    assert temperature(np.zeros(100)) == 1.0
    assert temperature(-np.ones(100)) == 100.0  # against its own word: as good as no opinion


def test_the_temperature_of_a_fold_comes_from_the_others():
    x, y = margins_and_wins(2_000)
    raw = preferred(x, y)
    folds = np.arange(2_000) % 2
    raw[folds == 1] *= 5
    scaled = cross_fitted(raw, folds)
    assert np.abs(scaled[folds == 1]).mean() > 10 * np.abs(scaled[folds == 0]).mean()
    assert scaled[folds == 0] == pytest.approx(raw[folds == 0] / temperature(raw[folds == 1]))


def test_votes_that_are_shared_count_as_shares():
    x, _ = margins_and_wins(3_000)
    found = calibrate(x, wins=expit(x), clusters=[str(i) for i in range(3_000)])
    assert found.slope.value == pytest.approx(1, abs=0.01)


def test_error_and_interval_by_hand():
    assert expected_error([0.9, 0.9, 0.1, 0.1], [1, 0, 0, 0], bins=2) == pytest.approx((0.4 + 0.1) / 2)
    assert Interval(value=1, low=0.5).contains(9)
    assert not Interval(value=1, low=0.5, high=2).contains(0.4)
