"""Histograms give the same interval as the sequence over all values, and survive being stored."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.rollout.live.counts import Counts
from flywheel.rollout.live.ratios import Ratios
from flywheel.statistics.sequences import ConfidenceSequence

ternary = st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=60)
any_values = st.lists(st.floats(-1, 1), min_size=1, max_size=60)


def filled(values, steps=840) -> Counts:
    counts = Counts(steps)
    for value in values:
        counts.add(value)
    return counts


@settings(max_examples=40, deadline=None)
@given(ternary)
def test_what_lies_on_the_grid_gives_the_very_interval_of_the_sequence(values):
    sequence = ConfidenceSequence(0.95)
    sequence.add(values)
    found = sequence.estimate()
    low, high = filled(values).interval(0.95)
    assert (low, high) == (found.low, found.high)
    assert filled(values).mean == pytest.approx(found.mean)


@settings(max_examples=40, deadline=None)
@given(any_values)
def test_what_lies_between_widens_the_interval_and_by_one_step_at_the_most(values):
    low, high = filled(values).interval(0.95)
    fine_low, fine_high = filled(values, 8_400_000).interval(0.95)
    assert low <= fine_low + 1e-6
    assert high >= fine_high - 1e-6
    assert fine_low - low <= 1 / 840 + 1e-6
    assert high - fine_high <= 1 / 840 + 1e-6


@pytest.mark.parametrize("parts", range(1, 9))
def test_means_of_up_to_eight_wins_and_losses_are_exact(parts):
    for won in range(-parts, parts + 1):
        counts = filled([won / parts])
        assert counts.dump()["between"] == []


@settings(max_examples=40, deadline=None)
@given(any_values)
def test_stored_and_loaded_it_goes_on_as_if_nothing_had_happened(values):
    one = filled(values)
    other = Counts.load(json.loads(json.dumps(one.dump())))
    one.add(0.1)
    other.add(0.1)
    assert one.dump() == other.dump()
    assert one.interval(0.9) == other.interval(0.9)


def test_alarms_ring_for_a_loss_and_not_for_its_opposite():
    lost = filled([-1.0] * 15 + [0.0] * 35)
    assert lost.below(0.0, 0.01)
    assert not lost.above(0.0, 0.5)
    assert filled([1.0] * 15 + [0.0] * 35).above(0.0, 0.01)
    assert not filled([0.0] * 400).below(0.0, 0.05)


def test_nothing_is_no_evidence():
    counts = Counts()
    assert counts.interval(0.95) is None
    assert counts.mean is None
    assert not counts.below(0.0, 0.5)
    assert not counts.above(0.0, 0.5)


@pytest.mark.parametrize("value", [1.01, -1.01, math.nan])
def test_a_value_that_is_no_difference_is_refused_and_not_counted(value):
    counts = Counts()
    with pytest.raises(ValueError, match="must lie in"):
        counts.add(value)
    assert counts.n == 0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=50))
def test_signs_count_every_unit_once(values):
    below, equal, above = filled(values).signs()
    assert below + equal + above == len(values)
    grid = [value for value in values if abs(value) > 1e-3]
    assert below >= sum(value < 0 for value in grid)
    assert above >= sum(value > 0 for value in grid)


def ratios(values, limit=1.5) -> Ratios:
    made = Ratios(limit)
    for value in values:
        made.add(math.log(value) if math.isfinite(value) else math.inf)
    return made


def test_a_median_ratio_and_its_interval():
    rng = np.random.default_rng(1)
    found = ratios(1.2 * rng.lognormal(0, 0.3, 2_000))
    low, high = found.interval(0.95)
    assert low < 1.2 < high < 1.5
    assert high - low < 0.25
    assert found.median() == pytest.approx(1.2, rel=0.08)
    assert not found.above(0.05)


def test_slow_is_found_and_so_is_never_answering():
    assert ratios([2.0] * 40).above(0.01)
    assert ratios([1.0] * 15 + [math.inf] * 45).above(0.05)
    assert not ratios([1.5] * 500).above(0.05), "the limit itself is allowed"
    assert ratios([1.5] * 500).interval(0.95)[1] <= 1.5 * (1 + 1e-9)


def test_a_few_extreme_ratios_do_not_move_the_median():
    found = ratios([1.0] * 300 + [1e9] * 20 + [1e-9] * 20)
    assert found.interval(0.95)[1] < 1.3


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=40))
def test_ratios_survive_being_stored(values):
    one = ratios(values)
    other = Ratios.load(json.loads(json.dumps(one.dump())))
    assert one.dump() == other.dump()
    assert one.interval(0.95) == other.interval(0.95)
