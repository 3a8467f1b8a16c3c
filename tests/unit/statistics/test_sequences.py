import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.statistics.sequences import ConfidenceSequence, bounds, confidence_sequence, log_capital

BINARY = np.array([-1.0, 0.0, 1.0])
differences = st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=1, max_size=60)


def test_the_bet_is_fair():
    """Over all sequences of six rows, weighed by their chance, the capital is what was put in: a martingale."""
    chances = np.array([0.2, 0.5, 0.3])
    expected = 0.0
    for rows in itertools.product(range(3), repeat=6):
        counts = np.bincount(rows, minlength=3).astype(float)
        expected += np.prod(chances[list(rows)]) * math.exp(log_capital(BINARY, counts, chances @ BINARY))
    assert expected == pytest.approx(1, abs=1e-12)


def test_it_holds_at_every_look_and_a_naive_interval_does_not():
    rng = np.random.default_rng(1)
    chances, looks = [0.1, 0.8, 0.1], 20
    counts = rng.multinomial(50, chances, size=(200, looks)).cumsum(axis=1)
    low, high = bounds(BINARY, counts, 0.95)
    missed = ((low > 0) | (high < 0)).any(axis=1).mean()
    assert missed <= 0.05
    n = counts.sum(axis=2)
    mean = counts @ BINARY / n
    spread = np.sqrt((counts @ BINARY**2 / n - mean**2) / n)
    assert (np.abs(mean) > 1.96 * spread).any(axis=1).mean() > 0.2


def test_the_price_of_looking_is_less_than_double_the_width():
    counts = np.array([800, 16_000, 3_200]) / 10
    low, high = bounds(BINARY, counts, 0.95)
    n, mean = counts.sum(), counts @ BINARY / counts.sum()
    normal = 2 * 1.96 * math.sqrt((counts @ BINARY**2 / n - mean**2) / n)
    assert 1 < (high - low) / normal < 2
    assert low < mean < high


@settings(deadline=None, max_examples=25)
@given(differences, st.randoms(use_true_random=False))
def test_one_by_one_is_all_at_once_in_any_order(rows, random):
    shuffled = random.sample(rows, len(rows))
    stream = ConfidenceSequence(0.9)
    for row in shuffled:
        stream.add(row)
    one, all_rows = stream.estimate(), confidence_sequence(rows, confidence=0.9)
    assert (one.low, one.high, one.n) == (all_rows.low, all_rows.high, all_rows.n)
    assert one.mean == pytest.approx(all_rows.mean)


@settings(deadline=None, max_examples=25)
@given(differences)
def test_rounding_to_levels_only_widens_and_hardly(rows):
    values, counts = np.unique(rows, return_counts=True)
    low, high = bounds(values, counts, 0.95)
    found = confidence_sequence(rows)
    assert -1 <= found.low <= low + 1e-9
    assert high - 1e-9 <= found.high <= 1
    assert max(low - found.low, found.high - high) < 0.002  # two levels: an end may move by more than the values do
    assert found.low - 1e-9 <= found.mean <= found.high + 1e-9


@settings(deadline=None, max_examples=25)
@given(differences)
def test_sides_are_alike(rows):
    found, mirrored = confidence_sequence(rows), confidence_sequence([-row for row in rows])
    assert (mirrored.low, mirrored.high) == (pytest.approx(-found.high), pytest.approx(-found.low))


def test_more_rows_narrow_it_to_the_mean():
    widths = []
    for n in (100, 10_000, 1_000_000):
        low, high = bounds(BINARY, np.array([0.1, 0.8, 0.1]) * n, 0.95)
        widths.append(float(high - low))
    assert widths[0] > 5 * widths[1] > 25 * widths[2]
    assert widths[2] < 0.004


def test_clusters_are_the_units():
    person = np.repeat(np.arange(40), 25)
    values = np.random.default_rng(5).choice(BINARY, size=40)[person]
    found = confidence_sequence(values, clusters=person.tolist())
    assert (found.n, found.clusters) == (1_000, 40)
    alone = confidence_sequence(values[::25])
    assert (found.mean, found.low, found.high) == (alone.mean, alone.low, alone.high)
    uneven = confidence_sequence([1, 1, 1, 0], clusters=["a", "a", "a", "b"])
    assert uneven.mean == 0.5  # of people, not of rows


def test_the_first_row_says_little():
    found = confidence_sequence([1.0])
    assert found.high == 1
    assert found.low < -0.9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: confidence_sequence([]), "no rows"),
        (lambda: confidence_sequence([0.0, 1.5]), r"\[-1, 1\]"),
        (lambda: confidence_sequence([float("nan")]), "NaN"),
        (lambda: confidence_sequence([0.0], confidence=1), "confidence"),
        (lambda: confidence_sequence([0.0, 1.0], clusters=["a"]), "1 cluster labels for 2 rows"),
        (lambda: ConfidenceSequence().estimate(), "no rows"),
    ],
)
def test_wrong_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
