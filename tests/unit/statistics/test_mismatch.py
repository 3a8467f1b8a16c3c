import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import dirichlet_multinomial, multinomial

from flywheel.statistics.mismatch import missing_pairs, ratio_evidence, ratio_p

outcomes = st.dictionaries(st.integers(0, 20), st.floats(0, 1), max_size=15)


def test_a_right_split_and_a_wrong_one():
    assert ratio_p([5_010, 4_990], [1, 1]) > 0.5
    assert ratio_p([5_200, 4_800], [1, 1]) < 0.001
    assert ratio_p([900, 100], [0.9, 0.1]) == 1.0
    assert ratio_p([0, 0], [1, 1]) == 1.0


@pytest.mark.parametrize("counts", [[0, 0, 0], [10, 3, 5], [400, 310, 290]])
def test_the_evidence_is_a_ratio_of_two_likelihoods(counts):
    shares, n = np.array([0.4, 0.3, 0.3]), sum(counts)
    expected = dirichlet_multinomial.pmf(counts, 50 * shares, n) / multinomial.pmf(counts, n, shares)
    assert ratio_evidence(counts, shares, concentration=50) == pytest.approx(expected)


def test_a_right_split_raises_no_alarm_at_any_look_and_a_wrong_one_does():
    rng = np.random.default_rng(2)
    right = rng.multinomial(100, [0.5, 0.5], size=(2_000, 50)).cumsum(axis=1)
    wrong = rng.multinomial(1_000, [0.53, 0.47], size=(200, 20)).cumsum(axis=1)
    assert (ratio_evidence(right, [1, 1]) >= 20).any(axis=1).mean() <= 0.05
    assert (ratio_evidence(wrong, [1, 1]) >= 1_000).any(axis=1).mean() > 0.99
    assert np.isfinite(ratio_evidence([10**7, 0], [1, 1]))


@settings(deadline=None, max_examples=50)
@given(outcomes, outcomes)
def test_the_bounds_hold_whatever_the_missing_answers_were(live, candidate):
    if not live and not candidate:
        return
    found = missing_pairs(live, candidate)
    assert found.paired + found.only_live + found.only_candidate == len(live.keys() | candidate.keys())
    for missing_live, missing_candidate in ((0.3, 0.8), (1, 0), (0, 1)):
        asked = live.keys() | candidate.keys()
        mean = np.mean([candidate.get(key, missing_candidate) - live.get(key, missing_live) for key in asked])
        assert found.worst - 1e-9 <= mean <= found.best + 1e-9


def test_missing_pairs_in_numbers():
    found = missing_pairs({"a": 1, "b": 0, "c": 1}, {"a": 1, "b": 1, "d": 1})
    assert (found.paired, found.only_live, found.only_candidate, found.difference) == (2, 1, 1, 0.5)
    assert found.worst == pytest.approx((0 + 1 - 1 + 0) / 4)
    assert found.best == pytest.approx((0 + 1 + 0 + 1) / 4)
    assert missing_pairs({"a": 1}, {"b": 1}).difference is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ratio_p([1, 2, 3], [1, 1]), "shape"),
        (lambda: ratio_p([1, 2], [1, 0]), "positive"),
        (lambda: ratio_evidence([-1, 2], [1, 1]), "negative"),
        (lambda: missing_pairs({}, {}), "neither"),
        (lambda: missing_pairs({"a": 2}, {}), r"\[0, 1\]"),
    ],
)
def test_wrong_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
