"""The monitor's rules on columns: when it alarms, when it must not, and what it says of few labels."""

from datetime import UTC, datetime

import numpy as np
import pytest

from flywheel.config import FilterConfig, GoodhartConfig
from flywheel.quality.filters import Columns
from flywheel.quality.goodhart.held_out import optimised, reads, used_by
from flywheel.quality.goodhart.measures import audit_of, p_greater, pair_rows
from flywheel.quality.goodhart.monitor import Watched, examine
from flywheel.quality.goodhart.tables import Rows

AT = datetime(2026, 11, 20, tzinfo=UTC)
NAN = float("nan")


def answers(*periods, people=150, labelled=100, seed=0):
    """One period each: (share right, mean of the thumbs)."""
    rng, parts = np.random.default_rng(seed), []
    for number, (right, thumbs) in enumerate(periods):
        truth = np.where(np.arange(people) < labelled, (rng.random(people) < right).astype(float), NAN)
        said = np.where(rng.random(people) < (thumbs + 1) / 2, 1.0, -1.0)
        parts.append((np.arange(people) + 10_000 * number, np.full(people, number), truth, said))
    person, period, truth, said = (np.concatenate(some) for some in zip(*parts, strict=True))
    return Rows(person, period, truth, {"explicit": said})


def look(rows, period, *, looks=0, targets=None, proxies=("explicit",), used=(), **policy):
    watched = Watched(rows, targets, set(proxies), used)
    return examine(watched, GoodhartConfig(**policy), period=period, turn=f"t{period}", at=AT, looks=looks)


GOOD, GAMED = (0.85, 0.2), (0.55, 0.7)


def test_a_proxy_that_rises_while_the_audit_falls_is_an_alarm():
    found = look(answers(GOOD, GAMED), 1)
    assert [(one.signal, one.witness) for one in found.alarms] == [("explicit", "audit")]
    assert found.alarms[0].p_value <= found.level == pytest.approx(0.025 * 6 / np.pi**2)
    assert "explicit went from 0." in found.text
    assert "100 people right" in found.text


def reacting(*periods, people=300, labelled=150, seed=0, like=(0.3, 0.8)):
    """As ``answers``, but thumbs follow the truth: (share right, added to the chance of a thumb up)."""
    rng, parts = np.random.default_rng(seed), []
    for number, (right, milder) in enumerate(periods):
        good = rng.random(people) < right
        said = np.where(rng.random(people) < np.where(good, like[1], like[0]) + milder, 1.0, -1.0)
        truth = np.where(np.arange(people) < labelled, good.astype(float), NAN)
        parts.append((np.arange(people) + 10_000 * number, np.full(people, number), truth, said))
    person, period, truth, said = (np.concatenate(some) for some in zip(*parts, strict=True))
    return Rows(person, period, truth, {"explicit": said})


@pytest.mark.parametrize("later", [0.5, 0.7, 0.9], ids=["harder", "same", "better"])
def test_no_alarm_as_long_as_people_react_as_before(later):
    found = look(reacting((0.7, 0.0), (later, 0.0)), 1)
    assert not found.alarm
    assert not found.warnings
    assert found.text.startswith("no alarm")


def test_reactions_that_right_answers_do_not_explain_are_an_alarm_unless_answers_got_better():
    found = look(reacting((0.7, 0.0), (0.66, 0.18)), 1)
    assert [(one.signal, one.kind) for one in found.alarms] == [("explicit", "inflated")]
    assert "of which right answers explain +0.00, while audit labels went from 64.0%" in found.text
    rose = look(reacting((0.7, 0.0), (0.85, 0.18)), 1)
    assert not rose.alarm
    assert [one.kind for one in rose.warnings] == ["inflated"]


def test_inflation_adds_up_and_is_compared_with_the_first_audited_period_or_the_one_that_was_settled():
    rows = reacting((0.7, 0.0), (0.7, 0.1), (0.7, 0.2), (0.7, 0.2), people=2_000)
    last = look(rows, 3).signals[0]
    assert last.change == pytest.approx(0.4, abs=0.12)
    watched = Watched(rows, None, {"explicit"})
    again = examine(watched, GoodhartConfig(), period=3, turn="t3", at=AT, looks=0, since=2)
    assert abs(again.signals[0].change) < 0.15
    assert look(rows, 3).alarm
    assert not again.alarm


def test_false_alarms_are_as_rare_as_promised_where_people_react_as_before():
    rng = np.random.default_rng(11)
    alarms = sum(
        look(reacting((0.7, 0.0), (rng.uniform(0.6, 0.8), 0.0), people=120, labelled=60, seed=n), 1).alarm
        for n in range(150)
    )
    assert alarms / 150 <= 0.05 * 6 / np.pi**2 + 0.03


def test_only_signals_that_rows_are_chosen_by_can_be_gamed():
    found = look(answers(GOOD, GAMED), 1, proxies=())
    assert not found.alarm
    assert [row.role for row in found.signals] == ["watched"]


def test_later_looks_need_more():
    rows = reacting((0.7, 0.0), (0.65, 0.12))
    first, tenth = look(rows, 1), look(rows, 1, looks=9)
    assert first.alarm
    assert not tenth.alarm
    assert (first.look, tenth.look) == (1, 10)


def test_it_is_compared_with_everything_before_not_with_the_first_period():
    rows = answers((0.6, 0.1), (0.95, 0.2), (0.95, 0.2), (0.55, 0.8), seed=1)
    assert look(rows, 3).audit_before.people == 300
    assert look(rows, 3).alarm
    assert not look(rows, 2).alarm


def test_few_labels_are_said_and_never_tested():
    rows = answers(GOOD, GAMED, labelled=12)
    found = look(rows, 1)
    assert (found.look, found.level, found.fall_p, found.alarms) == (None, None, None, [])
    assert found.text == "not enough labels: 12 of 30 people of t1 have an audit label (flywheel label)"
    assert look(rows, 1, min_people=10).look == 1


def test_the_first_period_with_labels_is_where_comparison_begins():
    rows = answers(GOOD, GAMED)
    assert (look(rows, 0).look, look(rows, 0).alarm) == (0, False)
    unlabelled = Rows(rows.people, rows.period, np.where(rows.period == 0, NAN, rows.truth), rows.signals)
    assert look(unlabelled, 1).look == 0


def test_a_person_counts_once_however_many_labels():
    rows = Rows(np.array([1, 1, 1, 2]), np.zeros(4, int), np.array([NAN, 0.0, 1.0, 1.0]), {})
    assert audit_of(rows).model_dump() == {"people": 2, "wrong": 1}
    many = answers((0.9, 0.0), (0.9, 0.0), people=40, labelled=40)
    grown = Rows(*(np.repeat(some, 50) for some in (many.people, many.period, many.truth)), {
        "explicit": np.repeat(many.signals["explicit"], 50)
    })  # fmt: skip
    assert look(grown, 1).signals[0].rise_p == pytest.approx(look(many, 1).signals[0].rise_p)


def test_the_held_out_signal_warns_where_it_is_held_out():
    rows, rng = answers((0.85, 0.2), (0.85, 0.7)), np.random.default_rng(3)
    distance = np.where(rows.period == 0, 0.3, 0.6) + 0.05 * rng.normal(size=rows.people.size)
    targets = Rows(rows.people, rows.period, rows.truth, {"correction_distance": distance})
    found = look(rows, 1, targets=targets)
    assert not found.alarm
    assert [one.witness for one in found.warnings][-1] == "correction_distance"
    spoiled = look(rows, 1, targets=targets, used=("sweep-1 (filter/filter-9)",))
    assert "correction_distance" not in [one.witness for one in spoiled.warnings]
    assert "no longer held out: sweep-1 (filter/filter-9) used it" in spoiled.text
    better = look(rows, 1, targets=targets, lower_is_better=[])
    assert "correction_distance" not in [one.witness for one in better.warnings]


def test_correlations_with_the_audit_and_with_each_other():
    rng = np.random.default_rng(7)
    truth = (rng.random(400) < 0.6).astype(float)
    signals = {"good": truth + rng.normal(size=400), "noise": rng.normal(size=400), "flat": np.ones(400)}
    signals["copy"] = 2 * signals["good"] + 0.1 * rng.normal(size=400)
    rows = Rows(np.arange(400), np.zeros(400, int), truth, signals)
    found = {row.signal: row for row in look(rows, 0, lower_is_better=["noise"]).signals}
    assert found["good"].auc_low > 0.6
    assert found["noise"].auc_low < 0.5 < found["noise"].auc_high
    assert found["flat"].auc == 0.5
    pairs = {(one.a, one.b): one for one in pair_rows(rows, "answers", signals, 0.95)}
    assert set(pairs) == {("copy", "good"), ("copy", "noise"), ("good", "noise")}
    assert pairs["copy", "good"].rho > 0.95
    assert pairs["copy", "noise"].low < 0 < pairs["copy", "noise"].high


def test_without_spread_nothing_is_shown():
    assert p_greater(np.ones(50), np.zeros(50)) == 1.0
    assert p_greater(np.zeros(0), np.ones(5)) == 1.0


def columns(**signals):
    size = len(next(iter(signals.values())))
    return Columns([str(n) for n in range(size)], np.zeros(size, bool), {k: np.array(v) for k, v in signals.items()})


ROWS = columns(
    explicit=[1.0, NAN, 1.0], agreement=[0.9, 0.1, 0.6], correction_distance=[0.2, 0.9, NAN], preference=[0.4, 0.6, 0.5]
)


def test_what_a_filter_reads_is_found_by_asking_it():
    assert "agreement" in reads(ROWS, FilterConfig())
    assert "correction_distance" not in reads(ROWS, FilterConfig())
    assert "correction_distance" in reads(ROWS, FilterConfig(max_correction_distance=0.5))
    assert reads(ROWS, FilterConfig(enabled=False)) == set()
    assert optimised(ROWS, FilterConfig(enabled=False)) == {"explicit", "preference"}


def test_who_used_the_held_out_signal():
    strict = FilterConfig(max_correction_distance=0.5)
    filters = {"default (dataset/d1)": FilterConfig(), "sweep-1 (filter/f1)": strict}
    assert used_by("correction_distance", ROWS, filters, "reward/r1") == ["sweep-1 (filter/f1)"]
    assert used_by("preference", ROWS, {}, "reward/r1") == ["reward/r1"]
    assert used_by("explicit", ROWS, {}, None) == ["the choice of candidates"]


def test_the_default_held_out_signal_is_one_that_the_default_filter_does_not_use():
    assert used_by(GoodhartConfig().held_out, ROWS, {"default": FilterConfig()}, "reward/r1") == []
