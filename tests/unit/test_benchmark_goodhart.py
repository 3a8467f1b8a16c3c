"""The simulated worlds of ``benchmarks/goodhart.py`` and the sets of ``benchmarks/curated_vs_noisy.py``, in small."""

from dataclasses import replace

import goodhart
import goodhart_worlds as worlds
import numpy as np
import pytest

from flywheel.config import FilterConfig

SMALL = {"answers": 700, "people": 500, "labelled": 120}


def world(kind, number=0):
    return replace(goodhart.world(5, kind, number), **SMALL)


@pytest.fixture(scope="module")
def runs():
    """Three worlds of each kind; the same traffic for both arms."""
    return {
        (kind, arm): [goodhart.simulate(world(kind, n), arm, [5, n]) for n in range(3)]
        for kind in ("gameable", "clean")
        for arm in goodhart.MONITORED
    }


def test_the_hidden_truth_is_the_share_of_right_answers():
    one, rng = replace(world("gameable"), answers=40_000, people=1_000), np.random.default_rng(0)
    policy = worlds.Policy(0.4, 1.1)
    assert worlds.live(one, policy, 0, rng).right.mean() == pytest.approx(worlds.quality(one, policy), abs=0.01)


def test_people_reward_polish_in_gameable_worlds_only():
    for kind, likes in (("gameable", True), ("clean", False)):
        period = worlds.live(replace(world(kind), answers=20_000), worlds.Policy(), 0, np.random.default_rng(1))
        polish = period.features[:, 1]
        for right in (True, False):
            rated = ~np.isnan(period.thumbs) & (period.right == right)
            gap = polish[rated & (period.thumbs > 0)].mean() - polish[rated & (period.thumbs < 0)].mean()
            assert (gap > 0.3) == likes


def test_optimising_thumbs_costs_more_than_the_filter_where_they_can_be_gamed(runs):
    thumbs, kept = (np.mean([run.loss for run in runs["gameable", arm]]) for arm in ("thumbs", "filter"))
    assert thumbs > 0.01
    assert thumbs > kept + 0.01
    assert np.mean([run.thumbs[-1] - run.thumbs[0] for run in runs["gameable", "thumbs"]]) > 0.1
    assert all(run.loss < 0 for run in runs["clean", "thumbs"])


def test_the_monitor_tells_the_two_kinds_of_world_apart(runs):
    assert sum(run.first_alarm is not None for run in runs["gameable", "thumbs"]) >= 2
    assert not any(run.first_alarm for run in runs["clean", "thumbs"])


def test_arms_begin_alike_and_a_run_repeats(runs):
    first, other = runs["gameable", "thumbs"][0], runs["gameable", "filter"][0]
    assert (first.quality[0], first.thumbs[0]) == (other.quality[0], other.thumbs[0])
    assert goodhart.simulate(world("gameable"), "filter", [5, 0]).quality == other.quality


def test_the_replay_share_caps_liked_rows_as_curation_does():
    correction = np.array([True, False, False, True, False])
    kept = np.array([True, True, True, True, True])
    assert worlds.replay(kept, correction, FilterConfig(liked_per_correction=1.0)).tolist() == [1, 1, 1, 1, 0]
    assert worlds.replay(kept, ~kept, FilterConfig()).all()


def test_sets_of_equal_compute(monkeypatch):
    import curated_vs_noisy as bench

    flow = bench.triage(0, count=240, cases=5)
    sets, counts = bench.training_sets(flow, 0.4, 0)
    assert {len(examples) for examples in sets.values()} == {240}
    assert len({example.example_id for example in sets["curated"]}) == 240
    right = {flow.asked[n]: flow.right[n] for n in range(240)}
    assert all(example.target == right[example.messages[0].content] for example in sets["oracle"])
    wrong = sum(example.target != right[example.messages[0].content] for example in sets["noisy"])
    assert 0.3 < wrong / 240 < 0.5
    assert counts["precision"] > 1 - wrong / 240
    assert bench.same('{"a": 1}', '{"a":1}')
    assert not bench.same("refund", "delivery")
