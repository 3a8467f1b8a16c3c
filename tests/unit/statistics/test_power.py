import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.power import normal_sample_size_one_tail

from flywheel.statistics.power import detectable_gain, pairs_needed, power
from flywheel.statistics.sequences import bounds


@settings(deadline=None, max_examples=30)
@given(st.floats(0.005, 0.2), st.floats(0.21, 0.6), st.floats(-0.05, 0), st.floats(0.5, 0.95))
def test_the_fixed_plan_is_that_of_the_reference(gain, discordant, limit, wanted):
    expected = normal_sample_size_one_tail(
        gain - limit, wanted, 0.025, math.sqrt(discordant - limit**2), math.sqrt(discordant - gain**2)
    )
    assert pairs_needed(gain, discordant, limit=limit, wanted=wanted) == pytest.approx(math.ceil(expected), abs=1)


def test_both_questions_have_one_answer():
    for design in ("fixed", "sequence"):
        pairs = pairs_needed(0.04, 0.2, design=design)
        assert detectable_gain(pairs, 0.2, design=design) == pytest.approx(0.04, rel=0.002)
        assert power(pairs, 0.04, 0.2, design=design) >= 0.8 > power(pairs - 1, 0.04, 0.2, design=design)


def test_the_price_of_looking_at_every_row():
    for gain, discordant, limit in ((0.04, 0.2, 0.0), (0.0, 0.1, -0.02), (0.01, 0.3, 0.0)):
        fixed, sequence = (
            pairs_needed(gain, discordant, limit=limit, design=design) for design in ("fixed", "sequence")
        )
        assert 2 < sequence / fixed < 2.6


@pytest.mark.parametrize(("gain", "limit"), [(0.05, 0.0), (0.0, -0.04)])
def test_the_plan_of_the_sequence_holds_in_simulation(gain, limit):
    discordant, values = 0.2, np.array([-1.0, 0.0, 1.0])
    pairs = pairs_needed(gain, discordant, limit=limit, design="sequence")
    shares = [(discordant - gain) / 2, 1 - discordant, (discordant + gain) / 2]
    low, _ = bounds(values, np.random.default_rng(0).multinomial(pairs, shares, size=1_000), 0.95)
    assert (low > limit).mean() == pytest.approx(0.8, abs=0.04)


def test_what_cannot_be_shown():
    assert detectable_gain(3, 0.2) is None
    assert detectable_gain(10, 0.2, design="sequence") is None
    assert power(0, 0.05, 0.2) == 0
    assert power(100_000, 0.2, 0.2) == pytest.approx(1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pairs_needed(0.0, 0.2), "no number of pairs"),
        (lambda: pairs_needed(0.3, 0.2), "discordant"),
        (lambda: power(10, 0.1, 0.2, limit=-0.3), "limit"),
        (lambda: power(10, 0.1, 0.2, confidence=1), "confidence"),
        (lambda: pairs_needed(1e-9, 0.5), "larger gain"),
    ],
)
def test_wrong_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
