"""AUC and rank correlation against plain definitions, sklearn and simulation."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from flywheel.statistics.concordance import auc, rank_correlation
from flywheel.statistics.proportions import Count, wilson
from flywheel.statistics.spending import level


def sample(rng, n=200, lift=1.0):
    right = rng.random(n) < 0.6
    return np.round(rng.normal(size=n) + lift * right, 1), right


def test_the_area_is_that_of_sklearn_ties_included():
    scores, right = sample(np.random.default_rng(0))
    assert auc(scores, right).mean == pytest.approx(roc_auc_score(right, scores))


def test_without_clusters_the_variance_is_delongs():
    scores, right = sample(np.random.default_rng(1), 60)
    hits, misses = scores[right], scores[~right]
    wins = (hits[:, None] > misses) + 0.5 * (hits[:, None] == misses)
    area = wins.mean()
    variance = wins.mean(1).var(ddof=1) / hits.size + wins.mean(0).var(ddof=1) / misses.size
    found = auc(scores, right)
    # Each row is of one kind, so the covariance of Obuchowski's clusters is 0.
    wide = stats.norm.ppf(0.975) * np.sqrt(variance) / (area * (1 - area))
    assert np.log(found.high / (1 - found.high)) - np.log(found.low / (1 - found.low)) == pytest.approx(2 * wide)


def test_rows_that_are_repeated_within_a_person_add_nothing():
    scores, right = sample(np.random.default_rng(2), 80)
    once = auc(scores, right)
    thrice = auc(np.repeat(scores, 3), np.repeat(right, 3), clusters=np.repeat(np.arange(80), 3))
    naive = auc(np.repeat(scores, 3), np.repeat(right, 3))
    assert (thrice.low, thrice.high, thrice.clusters) == (pytest.approx(once.low), pytest.approx(once.high), 80)
    assert naive.high - naive.low < 0.7 * (once.high - once.low)


def test_the_interval_keeps_its_promise_with_clusters():
    rng, covered = np.random.default_rng(3), 0
    truth = stats.norm.cdf(1 / np.sqrt(2 * 1.25))
    for _ in range(400):
        person = np.repeat(np.arange(40), 4)
        right = rng.random(160) < 0.6
        scores = rng.normal(size=160) + right + 0.5 * rng.normal(size=40)[person]
        found = auc(scores, right, clusters=person)
        covered += found.low <= truth <= found.high
    assert 0.91 <= covered / 400 <= 0.985


def test_little_is_known_of_few_rows():
    assert auc(np.array([1.0, 2.0]), np.array([True, True])) is None
    alone = auc(np.array([1.0, 2.0, 3.0]), np.array([False, True, True]))
    assert (alone.low, alone.high) == (0.0, 1.0)
    apart = auc(np.arange(10.0), np.arange(10) >= 5)
    assert apart.mean == 1
    assert apart.low == pytest.approx(0.025**0.2)


def test_rank_correlation_is_spearmans_and_ignores_scale():
    rng = np.random.default_rng(4)
    a = rng.normal(size=150)
    b = np.round(a + rng.normal(size=150), 1)
    found = rank_correlation(a, b)
    assert found.mean == pytest.approx(stats.spearmanr(a, b).statistic)
    assert found.low < found.mean < found.high
    assert rank_correlation(np.exp(a), b) == found
    assert rank_correlation(a, np.zeros(150)) is None


def test_its_interval_keeps_its_promise_with_clusters():
    rng, covered = np.random.default_rng(5), 0
    for _ in range(200):
        person = np.repeat(np.arange(60), 3)
        shared = rng.normal(size=60)[person]
        found = rank_correlation(shared + rng.normal(size=180), rng.normal(size=60)[person], clusters=person)
        covered += found.low <= 0 <= found.high
    assert 0.89 <= covered / 200 <= 0.99


def test_levels_sum_to_alpha():
    assert sum(level(0.05, look) for look in range(1, 20_000)) == pytest.approx(0.05, rel=1e-4)
    with pytest.raises(ValueError, match="from 1"):
        level(0.05, 0)


def test_wilson_contains_the_rate_and_never_leaves_0_and_1():
    assert wilson(Count(0, 0)) == (0.0, 1.0)
    low, high = wilson(Count(20, 20))
    assert 0.8 < low < 1
    assert high == pytest.approx(1)
