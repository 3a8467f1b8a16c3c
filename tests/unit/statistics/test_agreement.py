"""Agreement against implementations that share no code with ours: statsmodels, scikit-learn, formulas written out."""

import math
import random
from itertools import permutations

import pytest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import cohens_kappa, to_table

from flywheel.statistics.agreement import (
    cohen_kappa,
    cohen_kappa_interval,
    krippendorff_alpha,
    krippendorff_alpha_interval,
)

WEIGHTS = [None, "linear", "quadratic"]


def ratings(seed: int, n: int = 60) -> tuple[list[int], list[int]]:
    rng = random.Random(seed)
    a = [rng.randint(1, 5) for _ in range(n)]
    return a, [value if rng.random() < 0.6 else rng.randint(1, 5) for value in a]


def written_out_alpha(items, level) -> float:
    """1 - observed / expected disagreement over all ordered pairs (Krippendorff, section 12.3), no matrix."""
    units = [[value for value in item if value is not None] for item in items]
    units = [unit for unit in units if len(unit) > 1]
    values = [value for unit in units for value in unit]
    n = len(values)

    def distance(one, other):
        low, high = sorted((one, other))
        if level == "nominal":
            return float(low != high)
        if level == "interval":
            return (high - low) ** 2
        between = sum(low <= value <= high for value in values)
        return (between - (values.count(low) + values.count(high)) / 2) ** 2

    observed = sum(sum(distance(*pair) for pair in permutations(unit, 2)) / (len(unit) - 1) for unit in units) / n
    expected = sum(distance(*pair) for pair in permutations(values, 2)) / (n * (n - 1))
    return 1 - observed / expected


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("seed", range(5))
def test_kappa_is_that_of_statsmodels(weights, seed):
    a, b = ratings(seed)
    table = to_table([[x, y] for x, y in zip(a, b, strict=True)])[0]
    expected = cohens_kappa(table, wt=weights, return_results=False)
    assert cohen_kappa(a, b, weights=weights) == pytest.approx(expected, abs=1e-6)
    assert cohen_kappa(a, b, weights=weights) == pytest.approx(cohen_kappa_score(a, b, weights=weights), abs=1e-6)


def test_kappa_by_hand():
    """Cohen's own arithmetic: 35 of 50 agree, chance gives half."""
    a = ["yes"] * 20 + ["yes"] * 5 + ["no"] * 10 + ["no"] * 15
    b = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(a, b) == pytest.approx((0.7 - 0.5) / (1 - 0.5), abs=1e-12)


def test_weights_know_steps_of_the_scale_that_nobody_used():
    a, b = [1, 1, 5, 5, 1], [1, 5, 5, 5, 3]
    short, whole = cohen_kappa(a, b, weights="linear"), cohen_kappa(a, b, weights="linear", scale=range(1, 6))
    distances = [abs(x - y) for x, y in zip(a, b, strict=True)]
    chance = [abs(x - y) for x in a for y in b]
    assert whole == pytest.approx(1 - (sum(distances) / 5) / (sum(chance) / 25), abs=1e-12)
    assert short == pytest.approx(whole, abs=1e-12)  # 1, 3, 5 stand at even steps
    assert cohen_kappa([1, 2, 5], [2, 1, 5], weights="linear", scale=range(1, 6)) != pytest.approx(
        cohen_kappa([1, 2, 5], [2, 1, 5], weights="linear")
    )


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
@pytest.mark.parametrize("seed", range(4))
def test_alpha_is_the_written_out_formula_with_values_missing(level, seed):
    rng = random.Random(seed)
    a, b = ratings(seed, 40)
    items = [[x, y, rng.choice([None, x, 3])] if rng.random() < 0.8 else [x, None] for x, y in zip(a, b, strict=True)]
    assert krippendorff_alpha(items, level=level) == pytest.approx(written_out_alpha(items, level), abs=1e-6)
    scaled = krippendorff_alpha(items, level=level, scale=range(7))
    assert scaled == pytest.approx(written_out_alpha(items, level), abs=1e-6)


def test_alpha_of_the_book():
    """Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), section C: four observers, twelve units."""
    observers = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    items = list(zip(*observers, strict=True))
    assert krippendorff_alpha(items) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(items, level="ordinal") == pytest.approx(0.815, abs=5e-4)
    assert krippendorff_alpha(items, level="interval") == pytest.approx(0.849, abs=5e-4)


def test_what_is_undefined_is_nan():
    assert math.isnan(cohen_kappa([], []))
    assert math.isnan(cohen_kappa(["right"] * 5, ["right"] * 5))
    assert math.isnan(krippendorff_alpha([[1, 1], [1, 1]]))
    assert math.isnan(krippendorff_alpha([[1], [2, None]]))
    empty = cohen_kappa_interval([], [])
    assert empty.items == 0
    assert math.isnan(empty.low)


def test_intervals_hold_the_value_repeat_and_shrink_with_items():
    a, b = ratings(1)
    first = cohen_kappa_interval(a, b, resamples=200)
    assert first == cohen_kappa_interval(a, b, resamples=200)
    assert first.value == cohen_kappa(a, b)
    assert first.low < first.value < first.high
    assert first.items == 60
    many = cohen_kappa_interval(a * 4, b * 4, resamples=200)
    assert many.high - many.low < 0.7 * (first.high - first.low)
    units = list(zip(a, b, strict=True))
    spread = krippendorff_alpha_interval(units, level="ordinal", resamples=200)
    assert spread.low < spread.value < spread.high
    assert krippendorff_alpha_interval([*units, [1]], level="ordinal", resamples=200).items == 60


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="same items"):
        cohen_kappa([1], [1, 2])
    with pytest.raises(ValueError, match="scale"):
        cohen_kappa([1], [6], scale=range(1, 6))
    with pytest.raises(ValueError, match="scale"):
        krippendorff_alpha([[1, 9]], scale=[1, 2])
    with pytest.raises(ValueError, match="confidence"):
        cohen_kappa_interval([1, 2], [1, 2], confidence=1)
