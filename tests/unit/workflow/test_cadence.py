"""The pure rules of the cadence."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.config import CadenceConfig
from flywheel.workflow.cadence.cadence import RULES, CadenceFacts, Cluster, Rating, compared, due, next_time, pause

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC)  # a Wednesday
LAST = NOW - timedelta(days=2)
QUIET = CadenceConfig(every="none", new_examples=100, quality_window=50)
READY = CadenceFacts(live="v1", turn_ended=LAST, turn_saw=LAST - timedelta(hours=1), good=500, least=50)


def names(whys):
    return [why.name for why in whys]


def ratings(*failures_of_50, seen=NOW):
    return tuple(Rating(seen, position < failed) for failed in failures_of_50 for position in range(50))


def test_nothing_new_is_not_due_and_every_rule_says_what_it_waits_for():
    found = due(READY, QUIET, NOW)
    assert (found.due, found.reasons) == (False, ())
    assert names(found.waiting) == list(RULES)
    assert found.waiting[0].text == "0 new good examples, 100 wanted"


def test_enough_new_examples():
    assert not due(replace(READY, good_new=99), QUIET, NOW).due
    found = due(replace(READY, good_new=100), QUIET, NOW)
    assert (found.due, names(found.reasons)) == (True, ["new examples"])


def test_a_drop_in_quality_is_a_significant_one_against_the_time_after_the_promotion():
    drop = due(replace(READY, ratings=ratings(5, 20)), QUIET, NOW)
    assert (drop.due, names(drop.reasons)) == (True, ["quality drop"])
    assert drop.reasons[0].text.startswith("failures went from 10.0% to 40.0% in windows of 50 ratings (p = 0.0")
    for same in (ratings(5, 9), ratings(20, 5), ratings(5, 5, 20, 5)):
        assert not due(replace(READY, ratings=same), QUIET, NOW).due
    assert due(replace(READY, ratings=ratings(5, 5, 5, 20)), QUIET, NOW).due


def test_too_few_ratings_are_no_comparison():
    found = due(replace(READY, ratings=ratings(0, 50)[:-1]), QUIET, NOW)
    assert not found.due
    assert "99 of 100 ratings of the live model" in found.waiting[1].text


def test_a_drop_that_the_last_turn_saw_is_no_reason_for_another():
    seen = replace(READY, ratings=ratings(5, 20, seen=READY.turn_saw))
    assert not due(seen, QUIET, NOW).due
    assert "which the last turn saw" in due(seen, QUIET, NOW).waiting[1].text


@given(st.integers(20, 60), st.integers(0, 400))
def test_windows_never_overlap_and_grow_only_by_whole_ones(window, count):
    rows = tuple(Rating(NOW + timedelta(seconds=n), n % 3 == 0) for n in range(count))
    pair = compared(rows, window)
    assert (pair is None) == (count < 2 * window)
    if pair is not None:
        first, last = pair
        assert len(first) == len(last) == window
        assert first == list(rows[:window])
        assert rows.index(last[0]) % window == 0
        assert count - window < rows.index(last[-1]) + 1 <= count
        assert first[-1].seen < last[0].seen


def test_failures_of_a_new_kind():
    found = due(replace(READY, clusters=(Cluster("parcel lost", 9, 7), Cluster("login", 6, 5))), QUIET, NOW)
    assert (found.due, names(found.reasons)) == (True, ["new failures"])
    assert found.reasons[0].text == (
        "failures of a new kind: 9 about 'parcel lost' from 7 people, 6 about 'login' from 5 people"
    )


@pytest.mark.parametrize(
    ("every", "days_ago", "holds"),
    [("daily", 2, True), ("daily", 0.4, False), ("weekly", 2, False), ("weekly", 5, True), ("0 13 * * *", 0.9, False),
     ("0 11 * * *", 0.9, True), ("none", 999, False)],
)  # fmt: skip
def test_the_calendar(every, days_ago, holds):
    policy = CadenceConfig(every=every, min_gap_h=0)
    facts = replace(READY, turn_ended=NOW - timedelta(days=days_ago), good_new=1)
    assert (names(due(facts, policy, NOW).reasons) == ["calendar"]) is holds
    assert not due(replace(facts, good_new=0), policy, NOW).due  # a date alone teaches nothing


def test_the_first_turn_needs_no_date_but_something_to_learn_from():
    first = CadenceFacts(live="v1", good=60, good_new=60, least=50)
    assert names(due(first, CadenceConfig(), NOW).reasons) == ["calendar"]
    poor = due(replace(first, good=49, good_new=49), CadenceConfig(), NOW)
    assert (poor.due, names(poor.waiting)[0]) == (False, "too few")


@pytest.mark.parametrize("every", ["monthly", "* * * *", "0 0 0 * * *", "61 * * * *", "0 0 30 2 *", ""])
def test_what_is_no_calendar_is_refused(every):
    with pytest.raises(ValueError, match="none, daily, weekly or five cron fields"):
        CadenceConfig(every=every)


def test_calendar_times_are_utc():
    assert next_time("daily", NOW) == datetime(2026, 11, 19, tzinfo=UTC)
    assert next_time("weekly", NOW) == datetime(2026, 11, 23, tzinfo=UTC)
    assert next_time("30 2 * * *", NOW.astimezone()) == datetime(2026, 11, 19, 2, 30, tzinfo=UTC)


def test_an_unfinished_turn_is_due_at_once_unless_it_runs():
    facts = replace(READY, unfinished="turn-0004", turn_ended=NOW, good=0)
    found = due(facts, QUIET, NOW)
    assert (found.due, names(found.reasons)) == (True, ["unfinished turn"])
    running = due(replace(facts, running="ada@host since today"), QUIET, NOW)
    assert (running.due, running.waiting[0].text) == (False, "a turn is run by ada@host since today")


def test_after_turns_that_promoted_nothing_the_pause_doubles_up_to_its_limit():
    policy = CadenceConfig(min_gap_h=6, max_gap_h=40)
    assert [pause(policy, n) / timedelta(hours=1) for n in (0, 1, 2, 3, 99)] == [6, 12, 24, 40, 40]
    assert pause(CadenceConfig(min_gap_h=6, max_gap_h=1), 3) == timedelta(hours=6)
    facts = replace(READY, turn_ended=NOW - timedelta(hours=13), good_new=999)
    assert due(replace(facts, fruitless=1), QUIET, NOW).due
    waits = due(replace(facts, fruitless=2), QUIET, NOW)
    assert (waits.due, names(waits.reasons)) == (False, ["new examples"])
    assert waits.waiting[0].text == "until 2026-11-18 23:00 UTC after the last turn, 2 in a row promoted nothing"


times = st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31), timezones=st.just(UTC))
facts = st.builds(
    CadenceFacts,
    live=st.sampled_from([None, "v1"]),
    running=st.sampled_from([None, "ada"]),
    unfinished=st.sampled_from([None, "turn-0001"]),
    turn_ended=st.none() | times,
    turn_saw=st.none() | times,
    fruitless=st.integers(0, 40),
    good=st.integers(0, 300),
    good_new=st.integers(0, 300),
    least=st.integers(1, 100),
    ratings=st.lists(st.builds(Rating, times, st.booleans()), max_size=120).map(
        lambda rows: tuple(sorted(rows, key=lambda row: row.seen))
    ),
    clusters=st.lists(st.builds(Cluster, st.text(max_size=9), st.integers(1, 50), st.integers(1, 20)), max_size=3).map(
        tuple
    ),
)
policies = st.builds(
    CadenceConfig,
    new_examples=st.integers(1, 300),
    every=st.sampled_from(["none", "daily", "weekly", "15 4 1 * *"]),
    quality_window=st.integers(20, 60),
    min_gap_h=st.floats(0, 100),
    max_gap_h=st.floats(0, 500),
)


@given(facts, policies, times)
def test_a_verdict_always_has_its_reasons(facts, policy, now):
    found = due(facts, policy, now)
    if found.due:
        assert found.reasons
        assert facts.live
        assert not facts.running
        assert facts.unfinished or facts.good >= facts.least
    else:
        assert found.waiting
    said = names((*found.reasons, *found.waiting))
    assert len(said) == len(set(said))
    assert found == due(facts, policy, now)


@given(facts, policies, times)
def test_right_after_a_turn_nothing_is_due(facts, policy, now):
    finished = replace(facts, turn_ended=now, unfinished=None)
    gap = pause(policy, facts.fruitless)
    for moment in (now, now + gap - timedelta(microseconds=1)):
        if gap:
            assert not due(finished, policy, moment).due


@given(facts, policies, times, st.integers(1, 500))
def test_more_new_examples_never_make_a_turn_less_due(facts, policy, now, more):
    if due(facts, policy, now).due:
        assert due(replace(facts, good=facts.good + more, good_new=facts.good_new + more), policy, now).due


@given(facts, policies, times, st.timedeltas(timedelta(0), timedelta(days=60)))
def test_waiting_alone_never_makes_a_turn_less_due(facts, policy, now, later):
    if due(facts, policy, now).due:
        assert due(facts, policy, now + later).due
