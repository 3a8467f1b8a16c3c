"""The short form of ``benchmarks/offpolicy.py``: intervals hold in good worlds, poor ones are refused."""

import numpy as np
import offpolicy as bench
import pytest
from offpolicy_worlds import FACTOR, POOR, WORLDS, Choices, Rankings
from scipy import stats

from flywheel.statistics.policies import Policy

SIMULATIONS = 40
LEAST = int(stats.binom.ppf(1e-4, SIMULATIONS, 0.93))
"""An interval that holds in 93 of 100 cases falls below this once in ten thousand times."""


@pytest.mark.parametrize("world", [WORLDS[0], WORLDS[3], WORLDS[6], WORLDS[8], WORLDS[9]], ids=lambda world: world.name)
def test_intervals_hold_the_truth(world):
    for row in bench.simulate(world, SIMULATIONS, seed=3, peers=False):
        answered = round(SIMULATIONS * (1 - row["refused"]))
        assert answered >= 0.9 * SIMULATIONS, row
        assert row["coverage"] * answered >= LEAST - (SIMULATIONS - answered), row
        assert row["coverage_gain"] * answered >= LEAST - (SIMULATIONS - answered), row


@pytest.mark.parametrize("world", POOR, ids=lambda world: world.name)
def test_poor_overlap_is_refused(world):
    for row in bench.simulate(world, 8, seed=4, peers=False):
        assert row["refused"] == 1, row


def test_truths_are_those_of_traffic_that_the_target_serves():
    """Truth is a sum over contexts and lists; here it is the mean over traffic of the target itself."""
    target = Policy(0.3, 0.05)
    for world in (
        Choices("x", 20_000, target, target),
        Rankings("x", 8_000, "pbm", target, target, skill=0.5),
        Rankings("x", 8_000, "cascade", target, target, skill=0.5),
    ):
        log = world.draw(np.random.default_rng(0))
        rewards = log.rewards if log.rewards.ndim == 1 else log.rewards.sum(axis=1)
        assert rewards.mean() == pytest.approx(world.truth[0], abs=0.012)
    assert pytest.approx(5 / 6) == FACTOR
