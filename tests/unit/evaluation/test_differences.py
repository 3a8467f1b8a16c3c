"""Holm's p-values over a whole table, against statsmodels."""

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from flywheel.evaluation.compare import SuiteComparison
from flywheel.evaluation.differences import Difference, adjusted
from flywheel.statistics.bootstrap import Estimate


def difference(p, row=1):
    gain = Estimate(0.1, 0.0, 0.2, 10, 10)
    return Difference(row, "random", SuiteComparison("random", 10, 0.5, 0.6, gain, p, ["c1"], [], {}))


@pytest.mark.parametrize("count", [1, 2, 5, 20])
def test_adjusted_p_values_are_statsmodels(count):
    values = np.random.default_rng(count).beta(0.3, 1, size=count)
    values[count // 2 :] = values[0]  # ties
    found = [one.p_adjusted for one in adjusted([difference(float(p), row) for row, p in enumerate(values, 1)])]
    np.testing.assert_allclose(found, multipletests(values, method="holm")[1], atol=1e-12)


def test_none_stays_none_and_numbers_hold_no_case_ids():
    assert adjusted([]) == []
    told = adjusted([difference(0.04)])[0].as_dict()
    assert (told["fixed"], told["newly_broken"], told["p_adjusted"]) == (1, 0, 0.04)
    assert "c1" not in str(told)
