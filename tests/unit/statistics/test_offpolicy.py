"""Single decisions: estimates by hand, what predictions may and may not do, and every reason to refuse."""

from dataclasses import replace

import numpy as np
import pytest

from flywheel.statistics.offpolicy import Decisions, direct, evaluate, limited, linearised
from flywheel.statistics.offpolicy_model import cross_fitted
from flywheel.statistics.offpolicy_overlap import Limits
from flywheel.statistics.offpolicy_units import Units

FREE = Limits(min_units=2, min_effective=0, min_tail=0, max_weights_off=9)


def log(rows=400, seed=0, **fields):
    """Two choices, logged evenly; the target takes the second three times in four. It pleases more."""
    rng = np.random.default_rng(seed)
    served = rng.integers(2, size=rows)
    pleased = np.array([0.2, 0.6])[served]
    target = np.array([0.25, 0.75])
    return Decisions(**{
        "weights": target[served] / 0.5, "rewards": (rng.random(rows) < pleased).astype(float),
        "served": np.array([0.1, 0.4])[served], "expected": np.full(rows, 0.325),
        "moments": (np.full(rows, 1.25), np.full(rows, 1.75)),
        **fields,
    })  # fmt: skip


def test_estimates_by_hand():
    three = Decisions(
        weights=np.array([2.0, 0.5, 1.5]),
        rewards=np.array([1.0, 0.0, 1.0]),
        served=np.array([0.5, 0.25, 1.0]),
        expected=np.array([0.4, 0.6, 0.8]),
    )
    wanted = {
        "ips": 3.5 / 3,
        "snips": 3.5 / 4,
        "dr": 0.6 + (2 * 0.5 - 0.5 * 0.25) / 3,
        "sndr": 0.6 + (2 * 0.5 - 0.5 * 0.25) / 4,
    }
    for name, value in wanted.items():
        assert linearised(name, three, Units.of(None, 3)).mean() == pytest.approx(value)
    assert direct(three) == pytest.approx(0.6)


@pytest.mark.parametrize("name", ["ips", "snips", "dr", "sndr"])
def test_the_true_value_is_found_whatever_the_model_says(name):
    found = evaluate(name, log(rows=40_000))
    assert found.value.low < 0.5 < found.value.high
    assert found.gain.low < 0.1 < found.gain.high
    assert found.value.high - found.value.low < 0.03


def test_the_logged_policy_gains_nothing_over_itself():
    same = log(weights=np.ones(400), served=np.full(400, 0.1), expected=np.full(400, 0.1))
    for name in ("ips", "snips", "dr", "sndr"):
        assert evaluate(name, same).gain.mean == pytest.approx(0, abs=1e-12)
        assert evaluate(name, same).value.mean == pytest.approx(same.rewards.mean())


def test_rows_of_one_unit_are_no_independent_evidence():
    alone, one = evaluate("snips", log()), log()
    repeated = replace(
        one, units=np.tile(np.arange(400), 4), served=None, expected=None,
        **{name: np.tile(getattr(one, name), 4) for name in ("weights", "rewards")},
    )  # fmt: skip
    found = evaluate("snips", repeated)
    assert (found.value.n, found.value.clusters) == (1600, 400)
    assert (found.value.low, found.value.high) == pytest.approx((alone.value.low, alone.value.high))
    spread = evaluate("snips", replace(repeated, units=None), limits=FREE).value
    assert spread.high - spread.low < 0.6 * (found.value.high - found.value.low)


def test_unit_labels_of_any_kind():
    numbers = np.random.default_rng(0).integers(50, size=400)
    one, other = log(units=numbers), log(units=[f"u{number}" for number in numbers])
    assert evaluate("dr", one).value == evaluate("dr", other).value


def test_a_good_model_narrows_the_interval():
    rng = np.random.default_rng(5)
    easy = rng.random(3_000)
    served = rng.integers(2, size=3_000)
    rewards = (rng.random(3_000) < easy).astype(float)
    features = np.stack([np.column_stack([easy, np.full(3_000, choice)]) for choice in (0, 1)], axis=1)
    predicted = cross_fitted(features[np.arange(3_000), served], rewards, features)
    of_served = predicted[np.arange(3_000), served]
    seen = Decisions(np.where(served == 1, 2.0, 0.0), rewards, None, of_served, predicted[:, 1])
    plain, helped = (evaluate(name, seen).value for name in ("ips", "dr"))
    assert helped.high - helped.low < 0.8 * (plain.high - plain.low)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"weights": np.array([399.0] + [0.0] * 399)}, "few_effective"),
        ({"moments": (np.full(400, 50.0), np.full(400, 2_500.0))}, "few_effective"),
        ({"moments": (np.full(400, 2.0), np.full(400, 20.0))}, "heavy_weights"),
        ({"unsupported": np.full(400, 0.3)}, "no_support"),
        ({"units": np.arange(400) % 20}, "few_units"),
        ({"rewards": np.array([1.0] * 2 + [0.0] * 398)}, "thin_tail"),
        ({"rewards": np.zeros(400)}, "no_variation"),
        ({"weights": np.full(400, 1.4)}, "weights_off"),
        ({"weights": np.zeros(400)}, "weights_off"),
        (
            {"weights": np.zeros(0), "rewards": np.zeros(0), "served": None, "expected": None},
            "no_rows",
        ),
    ],
)
def test_what_cannot_be_known_is_refused_and_says_what_to_do(fields, code):
    for name in ("ips", "snips"):
        found = evaluate(name, log(**fields))
        assert found.value is None
        assert found.gain is None
        reason = next(one for one in found.refused if one.code == code)
        assert any(word in reason.text for word in ("collect", "log with", "left out"))


def test_a_little_that_was_never_possible_widens_the_interval_by_all_it_could_be_worth():
    plain, unknown = (evaluate("ips", log(unsupported=share)).value for share in (None, np.full(400, 0.01)))
    assert unknown.low == pytest.approx(plain.low)
    assert unknown.high == pytest.approx(plain.high + 0.01)


def test_clipping_is_paid_for_with_the_bias_it_can_have():
    seen = log()
    clipped = limited(seen, 1.2)
    assert clipped.weights.max() == 1.2
    assert clipped.uncut is seen.weights
    for name in ("ips", "snips", "dr", "sndr"):
        found, whole = (evaluate(name, one, limits=FREE).value for one in (clipped, seen))
        assert found.low < 0.5 < found.high
        assert found.high - found.low > whole.high - whole.low
    switched = limited(seen, 1.2, how="switch")
    assert set(switched.weights) == {0.0, 0.5}
    assert "weights_off" not in {one.code for one in evaluate("dr", switched).refused}


def test_intervals_stay_within_what_an_outcome_can_be():
    found = evaluate("ips", log(rewards=np.array([0.0] * 6 + [1.0] * 394)), limits=FREE).value
    assert found.high == 1.0
    assert found.low <= found.high


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"rewards": np.full(400, 1.5)}, "outcomes lie in"),
        ({"rewards": np.full(400, np.nan)}, "NaN"),
        ({"weights": np.full(400, -1.0)}, "not negative"),
        ({"weights": np.full(400, np.inf)}, "finite"),
        ({"expected": np.zeros(3)}, "expected"),
        ({"units": np.zeros(3, dtype=int)}, "unit labels"),
    ],
)
def test_what_are_no_decisions(fields, said):
    with pytest.raises(ValueError, match=said):
        evaluate("ips", log(**fields))


def test_a_model_is_needed_where_one_is_asked_for():
    with pytest.raises(ValueError, match="served"):
        evaluate("dr", log(served=None))
    with pytest.raises(ValueError, match="expected"):
        direct(log(expected=None))


def test_predictions_of_a_unit_have_not_seen_it():
    rng = np.random.default_rng(6)
    units = np.repeat(np.arange(40), 5)
    features, rewards = rng.normal(size=(200, 2)), rng.random(200)
    wanted = features[:, None, :]
    before = cross_fitted(features, rewards, wanted, units=units)
    changed = np.where(units == 7, 1 - rewards, rewards)
    after = cross_fitted(features, changed, wanted, units=units)
    assert (before[units == 7] == after[units == 7]).all()
    assert (before != after).any()
    with pytest.raises(ValueError, match="one unit"):
        cross_fitted(features, rewards, wanted, units=np.zeros(200, dtype=int))
    with pytest.raises(ValueError, match="shape"):
        cross_fitted(features, rewards[:3], wanted)
