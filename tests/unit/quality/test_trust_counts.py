"""Caps and bursts against loops that cannot be wrong."""

import numpy as np
import pytest

from flywheel.quality.trust import bursts, caps


def test_the_cap_is_a_count_of_each_actor():
    actor = np.array([0, 1, 0, 0, 1, 0])
    over = caps.over_cap(actor, np.array([True, True, True, False, True, True]), 2, np.array([5, 0, 1, 0, 1, 3]))
    assert over.tolist() == [True, False, False, False, False, False]
    assert not caps.over_cap(actor, np.zeros(6, dtype=bool), 1, actor).any()


@pytest.mark.parametrize("seed", range(5))
def test_fullest_window_of_every_row(seed):
    rng = np.random.default_rng(seed)
    group, at = rng.integers(6, size=200), rng.integers(1000, size=200).astype(float)
    found = bursts.in_window(group, at, 60)
    for row in range(200):
        mine = at[group == group[row]]
        windows = [((mine >= start) & (mine <= start + 60)).sum() for start in mine if start <= at[row] <= start + 60]
        assert found[row] == max(windows)
    assert bursts.peaks(group, found, 6).tolist() == [found[group == one].max() for one in range(6)]


def test_a_burst_is_judged_by_what_is_usual_here():
    people, hours = np.repeat(np.arange(50), 20), np.tile(np.arange(20) * 3600.0, 50)
    flood = np.r_[people, np.full(100, 50)], np.r_[hours, np.linspace(0, 60, 100)]
    settings = {"groups": 51, "seconds": 600, "factor": 5, "least": 40}
    assert np.flatnonzero(bursts.bursting(*flood, **settings)).tolist() == list(range(1000, 1100))
    imported = np.zeros(1100)  # all at one time: then 20 rows a person are usual, and 100 are not yet a burst
    assert not bursts.bursting(flood[0], imported, **settings | {"factor": 6}).any()
