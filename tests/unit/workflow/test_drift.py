"""Windows and levels of the drift test: what it finds, and how seldom it is wrong."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.statistics.proportions import Count
from flywheel.workflow.cadence.drift import Fresh, level, one_each, window_test, windows

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC)


def fresh(people):
    return [Fresh(f"c{n}", f"s{who}", NOW + timedelta(minutes=n)) for n, who in enumerate(people)]


def test_levels_sum_to_alpha():
    assert sum(level(0.05, window) for window in range(1, 100_000)) == pytest.approx(0.05, abs=1e-5)


@given(st.lists(st.integers(0, 30), max_size=200), st.integers(2, 20))
def test_windows_are_whole_hold_each_person_once_and_never_change_when_more_comes(people, size):
    cases = fresh(people)
    found = windows(cases[::-1], size)
    for window in found:
        assert len(window) == len({case.subject for case in window}) == size
    assert windows(cases[: len(cases) // 2], size) == found[: len(windows(cases[: len(cases) // 2], size))]
    ids = [case.case_id for window in found for case in window]
    assert len(ids) == len(set(ids))


def test_the_baseline_counts_each_person_once():
    assert [case.case_id for case in one_each(fresh([1, 1, 2, 1, 3]))] == ["c0", "c2", "c4"]


def test_a_clear_drop_is_an_alarm_and_its_numbers_are_told():
    drop = window_test("v3", 1, Count(25, 50), Count(60, 400), alpha=0.05, at=NOW)
    assert drop.alarm
    assert drop.text.startswith(
        "v3 answers 50.0% of 50 fresh cases right, 85.0% of 400 at its promotion (window 1, p = "
    )
    assert not window_test("v3", 1, Count(9, 50), Count(60, 400), alpha=0.05, at=NOW).alarm
    assert not window_test("v3", 1, Count(0, 50), Count(60, 400), alpha=0.05, at=NOW).alarm, "better is no drift"


def test_thirty_windows_without_drift_alarm_in_fewer_than_one_life_in_twenty():
    rng, lives, alarms = np.random.default_rng(4), 120, 0
    for _ in range(lives):
        baseline = Count(int(rng.binomial(400, 0.2)), 400)
        wrong = rng.binomial(50, 0.2, size=30)
        alarms += any(
            window_test("v", k, Count(int(bad), 50), baseline, alpha=0.05, at=NOW).alarm
            for k, bad in enumerate(wrong, 1)
        )
    assert alarms / lives < 0.05
