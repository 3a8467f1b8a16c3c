import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from flywheel.statistics.multiplicity import benjamini_hochberg, holm

p_values = st.dictionaries(st.integers(0, 20), st.floats(0, 1, allow_subnormal=False), min_size=1, max_size=12)


@settings(deadline=None, max_examples=10)
@given(p_values)
@pytest.mark.parametrize(("ours", "method"), [(holm, "holm"), (benjamini_hochberg, "fdr_bh")])
def test_equals_the_reference(ours, method, given_p):
    expected = multipletests(list(given_p.values()), method=method)[1]
    adjusted = ours(given_p)
    assert list(adjusted) == list(given_p)
    assert list(adjusted.values()) == pytest.approx(expected.tolist(), abs=1e-12)


def test_one_suite_stays_as_it_is_and_none_is_none():
    assert holm({"golden": 0.03}) == benjamini_hochberg({"golden": 0.03}) == {"golden": 0.03}
    assert holm({}) == benjamini_hochberg({}) == {}


def test_what_is_no_probability_is_refused():
    for correct in (holm, benjamini_hochberg):
        with pytest.raises(ValueError, match="'golden'"):
            correct({"golden": 1.5})
        with pytest.raises(ValueError, match="nan"):
            correct({"golden": float("nan")})
