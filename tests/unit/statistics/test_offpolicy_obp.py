"""Our estimators say what Open Bandit Pipeline says, on inputs that ``benchmarks/offpolicy_peer.py`` made."""

import json
from pathlib import Path

import numpy as np
import pytest

from flywheel.statistics.offpolicy import Decisions, direct, limited, linearised
from flywheel.statistics.offpolicy_lists import Lists, weighted
from flywheel.statistics.offpolicy_lists import linearised as linearised_lists
from flywheel.statistics.offpolicy_units import Units

FIXTURE = json.loads((Path(__file__).parent / "offpolicy_obp.json").read_text())
SINGLE, SLATES = FIXTURE["decisions"], FIXTURE["lists"]


@pytest.fixture(scope="module")
def decisions():
    served, target, model = (np.array(SINGLE[name]) for name in ("served", "target", "model"))
    row = np.arange(len(served))
    return Decisions(
        weights=target[row, served] / np.array(SINGLE["logged"])[row, served],
        rewards=np.array(SINGLE["rewards"]),
        served=model[row, served],
        expected=(target * model).sum(axis=1),
    )


@pytest.mark.parametrize("name", SINGLE["values"])
def test_single_decisions(decisions, name):
    estimator, _, how = name.partition(" ")
    seen = limited(decisions, SINGLE["most"], how=how) if how else decisions
    units = Units.of(None, len(seen.weights))
    value = direct(seen) if name == "dm" else linearised(estimator, seen, units).mean()
    assert value == pytest.approx(SINGLE["values"][name], abs=1e-6)


@pytest.mark.parametrize("name", SLATES["values"])
def test_lists(name):
    (logged, target), item = np.log(SLATES["prefix"]), np.array(SLATES["item"])
    rewards = np.array(SLATES["rewards"])
    places = np.zeros((2, *rewards.shape, rewards.shape[1]))
    at = np.arange(rewards.shape[1])
    places[:, :, at, at] = item
    log = Lists(
        rewards, logged, target, np.ones(rewards.shape, dtype=bool), logged_places=places[0], target_places=places[1]
    )
    units = Units.of(None, len(rewards))
    assert linearised_lists(name, log, units, *weighted(name, log, units)).mean() == pytest.approx(
        SLATES["values"][name], abs=1e-6
    )


def test_the_fixture_holds_what_obp_has():
    assert set(SINGLE["values"]) >= {"ips", "ips clip", "snips", "dm", "dr", "dr clip", "sndr", "dr switch"}
    assert set(SLATES["values"]) >= {"sips", "rips", "iips"}
