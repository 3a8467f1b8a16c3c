import numpy as np
import pytest

from flywheel.quality.reward_baselines import longer, tfidf, won
from flywheel.quality.reward_report import HeldOut, Interval, report, table, verdict


def held(n, right, longer_right=0.5, seed=0, weight=1.0):
    rng = np.random.default_rng(seed)
    return [
        HeldOut(fold=i % 2, prompt=f"p{i // 2}", kind="comparison" if i % 3 else "correction",
                margin=float(rng.exponential() * (1 if rng.random() < right else -1)),
                baselines={"longer": 1.0 if rng.random() < longer_right else -1.0, "tfidf": 0.0},
                slices={"tenant": "acme" if i % 2 else "zeta", "intent": f"i{i % 40}"}, weight=weight)
        for i in range(n)
    ]  # fmt: skip


def test_a_good_model_is_usable_and_one_below_its_baseline_is_not():
    good = report(held(400, 0.8, 0.55))
    assert good.usable
    assert good.against == "longer"
    assert good.difference.low > 0
    worse = report(held(400, 0.7, 0.85))
    assert not worse.usable
    assert "no better than the baseline" in worse.reason
    coin = report(held(400, 0.5, 0.3))
    assert not coin.usable
    assert "at least 60%" in coin.reason
    assert report([]) is None


def test_a_gain_that_may_be_chance_says_so():
    usable, reason = verdict(0.7, Interval(value=0.01, low=-0.02, high=0.04), "tfidf")
    assert usable
    assert "may be chance" in reason
    assert not verdict(0.7, Interval(value=0.0, low=-0.1, high=0.1), "tfidf")[0]


def test_slices_sum_up_and_small_ones_are_put_together():
    found = report(held(300, 0.8))
    by_name = {name: [row for row in found.slices if row.slice == name] for name in ("tenant", "kind", "intent")}
    for rows in by_name.values():
        assert sum(row.pairs for row in rows) == 300
        mean = sum(row.pairs * row.accuracy.value for row in rows) / 300
        assert mean == pytest.approx(found.accuracy.value, abs=1e-3)
    assert [row.value for row in by_name["intent"]] == ["other"]  # 7 or 8 pairs each
    lines = table(found)
    assert lines[0]["slice"] == "all"
    assert lines[0]["pairs"] == "300"


def test_weights_count_and_equal_weights_change_nothing():
    rows = held(200, 0.8)
    assert report(held(200, 0.8, weight=0.25)).accuracy.value == report(rows).accuracy.value
    low, high = (getattr(report(held(200, 0.8, weight=0.25)).accuracy, side) for side in ("low", "high"))
    assert low == pytest.approx(report(rows).accuracy.low, abs=0.01)
    assert high == pytest.approx(report(rows).accuracy.high, abs=0.01)
    heavy = [row.model_copy(update={"weight": 100.0}) if row.margin < 0 else row for row in rows]
    assert report(heavy).accuracy.value < 0.1


def test_baselines():
    assert longer([("abc", "a"), ("a", "abc"), ("a", "b")]).tolist() == [1, -1, 0]
    assert won([2.0, 0.0, -1.0]).tolist() == [1, 0.5, 0]
    train = [(f"thank you kindly number {i}", f"go away now number {i}") for i in range(20)]
    found = tfidf(train, [("thank you", "go away"), ("go away", "thank you"), ("x", "y")])
    assert found[0] > 0 > found[1]
    assert found[2] == 0
    assert tfidf([("a", "b")], [("c", "d")]).tolist() == [0]
    assert tfidf([], [("c", "d")]).tolist() == [0]
