"""Who gets how much of the shadow: everybody at first, then the two that decide, never who is out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.rollout import routing
from flywheel.rollout.live.allocate import best, in_the_race, shadow_shares, strengths, with_shares
from flywheel.rollout.live.counts import Counts
from flywheel.rollout.live.result import LiveVerdict
from flywheel.rollout.routing import Shadow, Variant


def one(name, mean=0.0, half=0.05, *, state="undecided", units=500) -> LiveVerdict:
    low, high = (None, None) if mean is None else (max(-1.0, mean - half), min(1.0, mean + half))
    return LiveVerdict(
        flow="f", candidate=name, live="v1", source="shadow", pairs=units, units=units, missing=0, mean=mean, low=low,
        high=high, planned_units=900, state=state, reasons=[],
    )  # fmt: skip


def test_at_first_all_get_the_same():
    assert shadow_shares([one("a", None, units=0), one("b", 0.1), one("c", 0.0)], budget=0.9) == {
        "a": 0.3, "b": 0.3, "c": 0.3,
    }  # fmt: skip


def test_the_leader_and_who_may_still_be_better_share_the_rest():
    found = shadow_shares([one("a", 0.10), one("b", 0.04, 0.09), one("c", 0.06, 0.02)], least=0.05)
    assert found == {"a": 0.475, "b": 0.475, "c": 0.05}


def test_who_is_worse_or_beaten_for_certain_gets_nothing():
    verdicts = [one("a", 0.2), one("b", 0.0), one("c", 0.3, state="worse")]
    assert shadow_shares(verdicts) == {"a": 1.0}
    assert best(verdicts).candidate == "a"
    assert best([one("a", 0.1), one("b", 0.1)]) is None
    assert shadow_shares([one("a", state="worse")]) == {}


def test_a_budget_of_nothing_and_two_of_one_name_are_errors():
    with pytest.raises(ValueError, match="positive budget"):
        shadow_shares([one("a")], budget=0)
    with pytest.raises(ValueError, match="one verdict a candidate"):
        shadow_shares([one("a"), one("a")])


def test_shares_go_into_the_routing_at_once_and_only_where_it_is_worth_it():
    state = routing.bootstrap("f", Variant(version="v1", folder="/v1"), actor="t")
    for name in "abc":
        shadow = Shadow(version=name, folder="/x", share=0.3, priority=5)
        state = routing.with_shadow(state, shadow, actor="t", reason="r")
    found = with_shares(state, {"a": 0.9, "b": 0.31, "z": 0.5}, actor="t", reason="verdicts")
    assert found.n == state.n + 1
    assert [(one.version, one.share, one.priority) for one in found.shadows] == [("a", 0.9, 5), ("b", 0.31, 5)]
    assert with_shares(found, {"a": 0.88, "b": 0.32}, actor="t", reason="verdicts") is None


states = st.sampled_from(["undecided", "worse", "no_worse", "better"])
verdict_lists = st.lists(st.tuples(st.floats(-0.9, 0.9), st.floats(0.01, 0.5), states), min_size=1, max_size=8)


@settings(max_examples=40, deadline=None)
@given(verdict_lists, st.floats(0.05, 3))
def test_shares_are_valid_and_within_the_budget(found, budget):
    verdicts = [one(f"c{n}", mean, half, state=state) for n, (mean, half, state) in enumerate(found)]
    shares = shadow_shares(verdicts, budget=budget)
    assert set(shares) == {each.candidate for each in in_the_race(verdicts)}
    assert all(0 < share <= 1 for share in shares.values())
    assert sum(shares.values()) <= budget + 1e-4


def play(means, rng, *, rounds=40, per_round=200):
    """Each round's answers go where the shares say. Who is left, and answers used."""
    counts = {name: Counts() for name in means}
    used = 0
    for _ in range(rounds):
        verdicts = [_so_far(name, own) for name, own in counts.items()]
        if best(verdicts):
            return best(verdicts).candidate, used
        for name, share in shadow_shares(verdicts, budget=1.0).items():
            size = round(share * per_round)
            used += size
            chances = [(0.3 - means[name]) / 2, 0.7, (0.3 + means[name]) / 2]
            for value in rng.choice([-1.0, 0.0, 1.0], p=chances, size=size):
                counts[name].add(value)
    return None, used


def _so_far(name, counts):
    interval = counts.interval(0.95) or (None, None)
    return one(name, None, units=0).model_copy(
        update={"mean": counts.mean, "low": interval[0], "high": interval[1], "units": counts.n}
    )


def test_the_best_of_five_is_found_before_the_budget_is_used():
    means = {"a": 0.28, "b": 0.0, "c": -0.05, "d": -0.1, "e": -0.2}
    name, used = play(means, np.random.default_rng(1))
    assert name == "a"
    assert used < 40 * 200


def test_strengths_put_all_on_one_scale():
    found = strengths({"a": (10, 70, 20), "b": (30, 60, 10)}, "v1")
    assert list(found.strengths) == ["a", "v1", "b"]
    assert found.difference("a", "v1").low < found.difference("a", "v1").value
