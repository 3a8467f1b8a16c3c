"""The sample-ratio alarm over rows as the gateway writes them: quiet about a right split, loud about a wrong one."""

import random

import pytest

from flywheel.gateway.asked import read_chat
from flywheel.gateway.assign import assign
from flywheel.gateway.record import Answer, inference_row
from flywheel.lake.tables import Lake
from flywheel.rollout import canaries, routing
from flywheel.rollout.routing import Canary, Shadow, Variant
from flywheel.rollout.split import check_split, drawn, split_checks

WHO = {"actor": "t", "reason": "r"}
FIRST = routing.bootstrap("triage", Variant(version="v1", folder="/v1"), actor="t")


def with_canary(state, version, share):
    return canaries.with_canary(state, Canary(version=version, folder="/x", share=share), **WHO)


FIVE = with_canary(FIRST, "a", 0.05)
MORE = with_canary(routing.with_shadow(FIVE, Shadow(version="s", folder="/s"), **WHO), "a", 0.25)
POLICIES = {state.n: state for state in (FIVE, MORE)}


def row(user, state=FIVE, *, ready=("a", "b"), model="triage", fails=False, tenant="default"):
    body = {"messages": [{"role": "user", "content": "x"}], "user": user, "model": model}
    asked = read_chat(body, {}, tenant=tenant, default_max_tokens=8)
    made = assign(state, asked, secret=b"s", usable=set(ready).__contains__)
    if fails and made.may_fall_back:
        made = made.fallen_back("engine_timeout")
    return inference_row(asked, Answer(), made, config_hash="c")


def checks(rows, policies=POLICIES):
    draws = [drawn(row.model_dump()) for row in rows]
    return split_checks([draw for draw in draws if draw], policies)


def users(count, start=0):
    return [f"u{n}" for n in range(start, start + count)]


def test_a_right_split_is_quiet_and_counts_keys_whatever_they_ask_how_often():
    busy = [row(user) for user in users(3_000) for _ in range(1 + (user.endswith("7")) * 2)]
    (check,) = checks(busy)
    assert not check.alarm
    assert [arm.version for arm in check.arms] == ["v1", "a"]
    assert sum(arm.keys for arm in check.arms) == 3_000
    assert check.arms[1].asked == 0.05
    assert "3,000 keys: v1 9" in check.text


def test_failures_of_the_canary_pins_and_times_when_it_was_down_are_no_mismatch():
    rows = [row(user, fails=True) for user in users(3_000)]
    rows += [row(user, model="a") for user in users(2_000, 5_000)]
    rows += [row(user, ready=()) for user in users(2_000, 9_000)]
    (check,) = checks(rows)
    assert not check.alarm
    assert sum(arm.keys for arm in check.arms) == 3_000
    assert check.arms[1].keys > 100


def test_rows_that_are_lost_on_one_side_raise_the_alarm():
    rows = [row(user) for user in users(6_000)]
    lost = [one for n, one in enumerate(rows) if one.model_version != "a" or n % 3]
    assert not checks(rows)[0].alarm
    assert not checks(lost[:500])[0].alarm, "too little traffic to tell"
    quarter = [row(user, MORE) for user in users(6_000)]
    assert checks([one for n, one in enumerate(quarter) if one.model_version != "a" or n % 3])[0].alarm


def test_a_key_in_two_arms_raises_it_at_once():
    rows = [row(user) for user in users(500)]
    moved = next(one for one in rows if one.model_version == "a").model_copy(update={"model_version": "v1"})
    (check,) = checks([*rows, moved])
    assert (check.alarm, check.moved) == (True, 1)


def test_each_split_is_a_group_of_its_own_with_a_stricter_limit():
    rows = [row(user, state) for state in (FIVE, MORE) for user in users(2_000)]
    five, quarter = checks(rows)
    assert [check.arms[1].asked for check in (five, quarter)] == [0.05, 0.25]
    assert (five.policies, quarter.policies) == ((2, 2), (4, 4))
    assert quarter.threshold == pytest.approx(4 * five.threshold)
    assert [check.alarm for check in (five, quarter)] == [False, False]


def test_a_canary_that_is_away_leaves_a_right_split_of_the_others():
    two = with_canary(FIVE, "b", 0.3)
    rows = [row(user, two, ready=("b",) if n % 2 else ("a", "b")) for n, user in enumerate(users(4_000))]
    found = checks(rows, {two.n: two})
    assert sorted(tuple(arm.version for arm in check.arms) for check in found) == [("v1", "a", "b"), ("v1", "b")]
    assert not any(check.alarm for check in found)


def test_false_alarms_are_rare_over_many_looks():
    rng = random.Random(3)
    alarms = 0
    for _ in range(200):
        rows = [row(f"{rng.random()}", MORE) for _ in range(60)]
        alarms += any(check.alarm for look in range(10, 61, 10) for check in checks(rows[:look]))
    assert alarms == 0


def test_from_the_lake(tmp_path):
    lake = Lake(str(tmp_path))
    for state in (FIRST, FIVE):
        routing.publish(lake.store, state)
    assert check_split(lake, FIRST) == []
    assert check_split(lake, FIVE) == []
    rows = [row(user, fails=user.endswith("3")) for user in users(300)]
    lake.append("inferences", rows, app="t", version=1)
    (check,) = check_split(lake, FIVE)
    assert sum(arm.keys for arm in check.arms) == 300
    assert not check.alarm
