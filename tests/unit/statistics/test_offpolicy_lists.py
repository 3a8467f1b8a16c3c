"""Ranked lists: estimates by hand, position bias that is known, and what each estimator may assume."""

from dataclasses import replace

import numpy as np
import pytest

from flywheel.statistics.offpolicy_bias import position_bias
from flywheel.statistics.offpolicy_lists import LIST_ESTIMATORS, Lists, evaluate_lists, linearised, weighted
from flywheel.statistics.offpolicy_overlap import Limits
from flywheel.statistics.offpolicy_places import place_chances
from flywheel.statistics.offpolicy_policies import prefix_log_chances
from flywheel.statistics.offpolicy_units import Units
from flywheel.statistics.policies import Policy

LOOKED_AT = np.array([1.0, 0.6, 0.3])
LIKED = np.array([0.4, 0.2, 0.7, 0.5])
SERVED, TARGET = Policy(1.0, 0.2), Policy(0.5, 0.1)
SCORES = np.array([0.5, -0.2, 0.9, 0.4])


def pbm_log(lists, seed=0, target=TARGET):
    """Lists of three of four items; places are looked at as ``LOOKED_AT`` says."""
    rng = np.random.default_rng(seed)
    scores = np.repeat(SCORES[None], lists, axis=0)
    places = [place_chances(SCORES[None], policy, np.arange(4)[None])[0, :, :3] for policy in (SERVED, target)]
    noise = np.where(rng.random((lists, 1)) < SERVED.epsilon, 0, scores) + rng.gumbel(size=scores.shape)
    order = np.argsort(-noise, axis=1)[:, :3]
    return Lists(
        rewards=(rng.random(order.shape) < LOOKED_AT * LIKED[order]).astype(float),
        logged=prefix_log_chances(scores, SERVED, order),
        target=prefix_log_chances(scores, target, order),
        shown=np.ones(order.shape, dtype=bool),
        logged_places=places[0][order],
        target_places=places[1][order],
    )


def true_value(policy):
    places = place_chances(SCORES[None], policy, np.arange(4)[None])[0][:, :3]
    return float(LIKED @ places @ LOOKED_AT)


def by_hand(**fields):
    two = {
        "rewards": np.array([[1.0, 0.0], [1.0, 1.0]]),
        "logged": np.log([[0.5, 0.25], [0.2, 0.1]]),
        "target": np.log([[0.25, 0.25], [0.4, 0.05]]),
        "shown": np.ones((2, 2), dtype=bool),
    }
    return Lists(**{**two, **fields})


def estimate(name, log):
    units = Units.of(log.units, len(log.rewards))
    return linearised(name, log, units, *weighted(name, log, units)).mean()


def test_estimates_by_hand():
    places = np.zeros((2, 2, 2)), np.zeros((2, 2, 2))
    places[0][:, [0, 1], [0, 1]] = [[0.5, 0.4], [0.2, 0.5]]
    places[1][:, [0, 1], [0, 1]] = [[0.25, 0.8], [0.4, 0.25]]
    log = by_hand(logged_places=places[0], target_places=places[1])
    assert estimate("sips", log) == pytest.approx((1.0 * 1 + 0.5 * 2) / 2)
    assert estimate("rips", log) == pytest.approx((0.5 + 2.0 + 0.5) / 2)
    assert estimate("iips", log) == pytest.approx((0.5 + 2.0 + 0.5) / 2)
    assert estimate("snsips", log) == pytest.approx(1.5 / 1.5 + 0.5 / 1.5)
    assert estimate("snrips", log) == pytest.approx(2.5 / 2.5 + 0.5 / 1.5)
    assert estimate("sniips", log) == pytest.approx(2.5 / 2.5 + 0.5 / 2.5)


def test_places_that_a_list_does_not_have_count_nowhere():
    log = by_hand(shown=np.array([[True, False], [True, True]]))
    longer = by_hand(
        shown=np.array([[True, False, False], [True, True, False]]),
        **{name: np.pad(getattr(log, name), ((0, 0), (0, 1))) for name in ("rewards", "logged", "target")},
    )
    for name in ("sips", "snsips", "rips", "snrips"):
        assert estimate(name, longer) == pytest.approx(estimate(name, log))
    assert estimate("sips", log) == pytest.approx((0.5 * 1 + 0.5 * 2) / 2)


@pytest.mark.parametrize("name", LIST_ESTIMATORS)
def test_the_true_value_where_places_are_looked_at_on_their_own(name):
    found = evaluate_lists(name, pbm_log(30_000))
    truth, served = true_value(TARGET), true_value(SERVED)
    assert found.value.low < truth < found.value.high
    assert found.gain.low < truth - served < found.gain.high
    assert found.value.high - found.value.low < 0.05


def test_fewer_assumptions_cost_width():
    width = {name: evaluate_lists(name, pbm_log(5_000)).value for name in ("sips", "rips", "iips", "pbm")}
    sips, rips, iips, pbm = (width[name].high - width[name].low for name in ("sips", "rips", "iips", "pbm"))
    assert pbm < iips < rips < sips


def test_the_logged_policy_gains_nothing_over_itself():
    log = pbm_log(2_000, target=SERVED)
    for name in LIST_ESTIMATORS:
        assert evaluate_lists(name, log).gain.mean == pytest.approx(0, abs=1e-9)


def test_position_bias_is_found_and_its_interval_holds():
    held = np.zeros(3)
    for seed in range(60):
        log = pbm_log(1_500, seed)
        found = position_bias(log.rewards, log.shown, log.logged_places, Units.of(None, 1_500)).estimates()
        held += [one.low <= true <= one.high for one, true in zip(found, LOOKED_AT, strict=True)]
    assert found[0].mean == 1
    assert (held[1:] >= 60 * 0.95 - 2.6 * (60 * 0.95 * 0.05) ** 0.5).all()


def test_counting_clicks_by_place_would_be_wrong():
    """Good items stand higher, so raw click rates fall faster than places are looked at."""
    log = pbm_log(60_000)
    raw = log.rewards.mean(axis=0) / log.rewards.mean(axis=0)[0]
    found = position_bias(log.rewards, log.shown, log.logged_places, Units.of(None, 60_000)).looked_at
    assert np.abs(found - LOOKED_AT).max() < 0.015
    assert np.abs(raw - LOOKED_AT).max() > 0.03


def test_without_randomised_places_the_bias_is_unknown_and_pbm_refuses():
    log = pbm_log(500)
    fixed = replace(log, logged_places=np.broadcast_to(np.eye(3), (500, 3, 3)))
    found = evaluate_lists("pbm", fixed)
    assert found.value is None
    assert "no_position_bias" in {one.code for one in found.refused}
    with pytest.raises(ValueError, match="not negative"):
        position_bias(-log.rewards, log.shown, log.logged_places, Units.of(None, 500))


def test_lists_far_from_what_served_are_refused():
    log = pbm_log(300)
    far = replace(log, target=log.target - np.array([0.0, 3.0, 9.0]))
    assert "weights_off" in {one.code for one in evaluate_lists("sips", far).refused}
    assert "no_support" in {one.code for one in evaluate_lists("rips", log, unsupported=0.2).refused}
    empty = Lists(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3), dtype=bool))
    assert evaluate_lists("rips", empty).refused[0].code == "no_rows"


def test_what_are_no_lists():
    with pytest.raises(ValueError, match="one shape"):
        by_hand(shown=np.ones((2, 3), dtype=bool))
    with pytest.raises(ValueError, match="no chance"):
        by_hand(logged=np.full((2, 2), -np.inf))
    with pytest.raises(ValueError, match="outcomes lie in"):
        by_hand(rewards=np.full((2, 2), 7.0))
    with pytest.raises(ValueError, match="place_chances"):
        evaluate_lists("iips", by_hand(), limits=Limits(min_units=2))
