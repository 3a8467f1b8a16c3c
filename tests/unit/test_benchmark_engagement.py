"""The simulated worlds of ``benchmarks/engagement.py``, and the loop in one of them, in small."""

import os

import engagement
import engagement_worlds as worlds
import numpy as np
import pytest


def test_what_is_expected_is_what_happens():
    world = worlds.draw(np.random.default_rng(3))
    rng = np.random.default_rng(0)
    requests = worlds.ask(world, 20_000, rng)
    shown = np.tile(np.arange(worlds.PLACES), (20_000, 1))
    did = worlds.react(world, requests, shown, rng)
    expected = worlds.worth(world, requests, shown, engagement.VALUES)
    assert did.opened.sum(axis=1).mean() == pytest.approx(expected.clicks, rel=0.03)
    harm = (did.did["hide"] | did.did["report"]).sum(axis=1).mean()
    assert harm == pytest.approx(expected.harm, rel=0.1)
    felt = worlds.satisfaction(world, requests)[:, : worlds.PLACES]
    assert (felt * did.opened).sum(axis=1).mean() == pytest.approx(expected.satisfaction, abs=0.02)
    plain = {"click": 1.0, "dwell": 1.0}
    earned = did.opened.astype(int) + (did.stayed_ms >= worlds.LONG_MS)
    assert earned.sum(axis=1).mean() == pytest.approx(worlds.worth(world, requests, shown, plain).reward, rel=0.03)


def test_bait_attracts_and_does_not_satisfy():
    for seed in range(5):
        world = worlds.draw(np.random.default_rng(seed))
        requests = worlds.ask(world, 2_000, np.random.default_rng(1))
        bait = world.bait[requests.items].ravel()
        assert np.corrcoef(bait, worlds.attraction(world, requests).ravel())[0, 1] > 0.1
        assert np.corrcoef(bait, worlds.satisfaction(world, requests).ravel())[0, 1] < -0.1


@pytest.mark.skipif(not os.environ.get("FLYWHEEL_LONG"), reason="half a minute; the short form is in tests/integration")
def test_the_loop_raises_satisfaction_over_three_turns_and_the_naive_one_does_not():
    world = worlds.draw(np.random.default_rng([0, 0]))
    runs = {arm: engagement.simulate(world, engagement.ARMS[arm], [0, 0]) for arm in ("loop", "naive")}
    start, end = (runs["loop"].worth[at].satisfaction for at in (0, -1))
    assert end > start
    assert runs["naive"].worth[-1].satisfaction < end
