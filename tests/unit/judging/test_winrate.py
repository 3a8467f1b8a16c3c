"""Win rates, raw and with length taken out."""

from datetime import UTC, datetime

import numpy as np
import pytest
import statsmodels.api as sm

from flywheel.judging.winrate import fit, length_feature, win_rate
from flywheel.records import Judgement

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def row(number, verdict, *, left=10, right=10, subject=None, orders=None):
    forward, backward = orders or ((verdict, verdict) if verdict != "abstain" else ("left", "right"))
    return Judgement(
        judgement_id=f"j{number}", flow="f", ts=T0, judge="j", item_id=f"i{number}", subject=subject, left_version="a",
        right_version="b", verdict=verdict, forward=forward, backward=backward, left_length=left, right_length=right,
    )  # fmt: skip


def simulated(n, *, level, slope, seed=0):
    rng = np.random.default_rng(seed)
    longer = rng.integers(-200, 400, n)
    chance = 1 / (1 + np.exp(-(level + slope * length_feature(longer.astype(float)))))
    verdicts = np.where(rng.random(n) < chance, "left", "right")
    return [row(i, str(v), left=500 + int(d), right=500) for i, (v, d) in enumerate(zip(verdicts, longer, strict=True))]


def test_ties_count_half_and_abstentions_not_at_all():
    rows = [row(0, "left"), row(1, "left"), row(2, "right"), row(3, "tie"), row(4, "abstain"),
            row(5, "abstain", orders=("invalid", "left"))]  # fmt: skip
    found = win_rate(rows)
    assert (found.n, found.wins, found.losses, found.ties, found.abstained, found.invalid) == (4, 2, 1, 1, 2, 1)
    assert found.raw == pytest.approx(2.5 / 4)


def test_equal_lengths_leave_the_rate_as_it_is():
    found = win_rate([row(i, "left" if i % 4 else "right") for i in range(200)])
    assert found.controlled == pytest.approx(found.raw, abs=1e-3)
    assert found.length_effect == pytest.approx(0)


def test_a_judge_of_length_alone_has_no_preference_at_equal_length():
    found = win_rate(simulated(1_500, level=0.0, slope=3.0))
    assert found.raw > 0.6
    assert found.raw_interval[0] > 0.55
    assert found.controlled == pytest.approx(0.5, abs=0.06)
    assert found.length_effect == pytest.approx(3.0, abs=0.6)


def test_a_real_preference_is_found_below_the_length():
    found = win_rate(simulated(1_500, level=1.0, slope=2.0, seed=1))
    assert found.controlled == pytest.approx(1 / (1 + np.exp(-1.0)), abs=0.06)
    assert found.controlled_interval[0] > 0.55


def test_the_fit_is_that_of_an_independent_implementation():
    rng = np.random.default_rng(2)
    feature, weights = np.tanh(rng.normal(size=400)), rng.integers(0, 4, (3, 400)).astype(float)
    credit = rng.choice([0.0, 0.5, 1.0], 400)
    ours = fit(credit, feature, weights, ridge=0.0)
    for mine, weight in zip(ours, weights, strict=True):
        model = sm.GLM(credit, sm.add_constant(feature), family=sm.families.Binomial(), freq_weights=weight)
        assert mine == pytest.approx(model.fit(tol=1e-12).params, abs=1e-6)


def test_a_side_that_always_wins_has_a_finite_fit():
    found = win_rate([row(i, "left", left=5 + i) for i in range(50)])
    assert found.raw == 1.0
    assert 0.95 < found.controlled < 1.0


def test_the_interval_is_over_people_not_over_answers():
    alone = win_rate([row(i, "left" if i % 2 else "right", left=7 + i % 7) for i in range(200)])
    few = win_rate([row(i, "left" if i % 2 else "right", left=7 + i % 7, subject=f"s{i % 2}") for i in range(200)])
    width = [found.controlled_interval[1] - found.controlled_interval[0] for found in (alone, few)]
    assert width[1] > 2 * width[0]


def test_nothing_and_a_single_subject_have_no_interval():
    assert win_rate([row(0, "abstain")]).raw is None
    found = win_rate([row(0, "left")])
    assert (found.raw, found.raw_interval, found.controlled_interval) == (1.0, None, None)


def test_answers_that_are_all_longer_leave_the_question_open():
    for longer in (0, 1):
        found = win_rate([row(i, "left", left=30 + longer * (i % 2)) for i in range(100)])
        assert (found.raw, found.controlled, found.controlled_interval) == (1.0, None, None)
