import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar as reference

from flywheel.statistics.mcnemar import exact_p, mcnemar


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 3_000), st.integers(0, 3_000))
def test_equals_the_reference(fixed, broken):
    expected = min(1.0, reference([[7, fixed], [broken, 5]], exact=True).pvalue)
    assert exact_p(fixed, broken) == pytest.approx(expected, abs=1e-6, rel=1e-6)


def test_pairs_are_counted_as_the_reference_counts_a_table():
    rng = np.random.default_rng(0)
    a, b = rng.random(500) < 0.8, rng.random(500) < 0.7
    table = [[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]]
    assert mcnemar(a, b).p == pytest.approx(reference(table, exact=True).pvalue, abs=1e-6, rel=1e-6)


def test_no_discordant_pair_is_no_evidence():
    assert exact_p(0, 0) == 1.0


def test_fixed_is_what_only_the_candidate_passes():
    result = mcnemar([True, True, False, True], [False, True, True, False])
    assert (result.fixed, result.broken) == (2, 1)
    assert result.p == pytest.approx(1.0)


def test_lengths_must_match():
    with pytest.raises(ValueError, match="differ in length"):
        mcnemar([True], [True, False])
