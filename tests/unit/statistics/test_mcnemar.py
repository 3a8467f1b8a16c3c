import pytest
from statsmodels.stats.contingency_tables import mcnemar as reference

from flywheel.statistics.mcnemar import exact_p, mcnemar


@pytest.mark.parametrize(("fixed", "broken"), [(0, 1), (5, 5), (10, 2), (2, 10), (40, 20), (1, 0)])
def test_equals_the_reference(fixed, broken):
    expected = reference([[0, fixed], [broken, 0]], exact=True).pvalue
    assert exact_p(fixed, broken) == pytest.approx(min(1.0, expected))


def test_no_discordant_pair_is_no_evidence():
    assert exact_p(0, 0) == 1.0


def test_fixed_is_what_only_the_candidate_passes():
    result = mcnemar([True, True, False, True], [False, True, True, False])
    assert (result.fixed, result.broken) == (2, 1)
    assert result.p == pytest.approx(1.0)


def test_lengths_must_match():
    with pytest.raises(ValueError, match="differ in length"):
        mcnemar([True], [True, False])
