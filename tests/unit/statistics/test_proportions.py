import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.statistics.proportions import Count, p_higher

counts = st.integers(1, 300).flatmap(lambda n: st.builds(Count, st.integers(0, n), st.just(n)))


def test_the_lady_tasting_tea():
    """Fisher's own example: 4 of 4 against 0 of 4 is 1 in 70, 3 of 4 against 1 of 4 is 17 in 70."""
    assert p_higher(Count(4, 4), Count(0, 4)) == pytest.approx(1 / 70)
    assert p_higher(Count(3, 4), Count(1, 4)) == pytest.approx(17 / 70)


def test_nothing_proves_nothing_and_impossible_counts_are_refused():
    assert p_higher(Count(0, 0), Count(3, 9)) == p_higher(Count(3, 9), Count(0, 0)) == 1.0
    assert Count(0, 0).rate == 0.0
    with pytest.raises(ValueError, match="10 hits of 9 rows"):
        p_higher(Count(10, 9), Count(0, 9))


@settings(deadline=None)
@given(counts, counts)
def test_it_is_a_probability_and_one_side_of_two(later, earlier):
    p, other = p_higher(later, earlier), p_higher(earlier, later)
    assert 0 < p <= 1 + 1e-9
    assert p + other >= 1 - 1e-9  # both sides hold what was observed
    if later.rate > earlier.rate:
        assert p <= other + 1e-9


@settings(deadline=None)
@given(counts, st.integers(1, 299))
def test_more_hits_are_never_weaker_evidence(earlier, hits):
    assert p_higher(Count(hits + 1, 300), earlier) <= p_higher(Count(hits, 300), earlier) + 1e-9
