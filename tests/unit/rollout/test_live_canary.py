"""Reactions of a canary's users: weighted without bias, the silent included, failures the canary's own."""

import random

import pytest
from live_traffic import at, drawn, said

from flywheel.config import GatePolicy, LiveQualityConfig
from flywheel.rollout.live.canaried import REACTIONS, CanaryBook, reaction
from flywheel.rollout.live.instrument import Voters
from flywheel.rollout.live.verdict import failed, judged

RULES = LiveQualityConfig(min_propensity=0.25, margin=0.1)
LATER = at(100_000).timestamp()


def book(rules=RULES) -> CanaryBook:
    return CanaryBook(rules, GatePolicy(), candidate="v2", live="v1")


def verdict(made: CanaryBook):
    made.settle(LATER)
    return judged(
        made.tally, [REACTIONS], Voters([REACTIONS.name], {}), GatePolicy(), flow="f", candidate="v2", live="v1"
    )


def traffic(users, likes, *, share=0.25, fails=0.0, seed=3) -> CanaryBook:
    """Each user asks once; ``likes``: chance of a thumb up by arm, half as often one down at v1's rate of 0.2."""
    made, rng = book(), random.Random(seed)
    for n in range(users):
        arm = "v2" if rng.random() < share else "v1"
        row = drawn(n, n, arm, user=f"{n:08x}", share=share, failed=arm == "v2" and rng.random() < fails)
        made.answered(row, share=share, live_share=1 - share)
        draw = rng.random()
        if draw < likes[arm]:
            made.reacted(said(row, "thumbs", 1))
        elif draw > 1 - (0.4 - likes[arm]):
            made.reacted(said(row, "thumbs", -1))
    return made


def test_an_equal_canary_is_no_worse_in_the_end_and_its_mean_is_near_0():
    found = verdict(traffic(2_500, {"v1": 0.2, "v2": 0.2}))
    assert abs(found.mean) < 0.08
    assert found.state in {"no_worse", "undecided"}
    assert found.source == "canary"
    assert found.units == 2_500


def test_a_canary_that_people_dislike_is_worse_and_the_mean_is_unbiased():
    found = verdict(traffic(2_500, {"v1": 0.3, "v2": 0.1}))
    assert found.state == "worse"
    assert found.mean == pytest.approx(-0.4, abs=0.1)


def test_the_answers_it_failed_count_as_its_worst_though_the_live_model_gave_them():
    found = verdict(traffic(2_500, {"v1": 0.2, "v2": 0.2}, fails=0.5))
    assert found.state == "worse"
    assert {"missing", "quality:reactions"} <= set(failed(found.reasons))
    assert found.missing == pytest.approx(312, rel=0.2)


def unanswered(row):
    """Nobody answered, or a stream broke off."""
    return row.model_copy(update={"finish_reason": "error", "choices": []})


@pytest.mark.parametrize(
    ("live", "canary", "worse"), [(0.3, 0.3, []), (1.0, 1.0, []), (0.4, 0.1, []),
                                  (0.1, 0.4, ["quality:reactions", "missing"])],
)  # fmt: skip
def test_failures_of_both_arms_are_compared_and_an_outage_of_both_is_no_loss(live, canary, worse):
    made, rng = book(), random.Random(5)
    for n in range(2_000):
        arm = "v2" if rng.random() < 0.25 else "v1"
        fails = rng.random() < (canary if arm == "v2" else live)
        row = drawn(n, n, arm, user=f"{n:08x}", failed=fails and arm == "v2")  # asked the live model, in vain
        made.answered(unanswered(row) if fails else row, share=0.25, live_share=0.75)
    found = verdict(made)
    assert [name for name in failed(found.reasons) if not name.startswith("slice:")] == worse
    assert found.mean == pytest.approx(live - canary, abs=0.1)
    [share] = [reason for reason in found.reasons if reason.name == "missing"]
    assert share.measured == pytest.approx(canary - live, abs=0.1)
    assert share.interval[0] < share.measured < share.interval[1]


@pytest.mark.parametrize(("arm", "weighted"), [("v2", -1.0), ("v1", 0.25 / 0.75)])
def test_a_stream_that_broke_is_the_failure_of_the_model_that_began_it(arm, weighted):
    made = book()
    made.answered(unanswered(drawn(0, 1, arm, user="a")), share=0.25, live_share=0.75)
    made.settle(LATER)
    assert made.tally.overall["reactions"].mean == pytest.approx(weighted)
    assert made.tally.missing == (arm == "v2")


@pytest.mark.parametrize(
    ("took", "late"), [({"latency_ms": 4_900.0}, False), ({"latency_ms": 5_100.0}, True),
                       ({"latency_ms": 9_000.0, "ttft_ms": 200.0}, False),
                       ({"latency_ms": 9_000.0, "ttft_ms": 5_100.0}, True)],
)  # fmt: skip
def test_a_live_answer_that_a_canary_would_have_been_given_up_for_is_a_failure_too(took, late):
    made = CanaryBook(RULES, GatePolicy(), candidate="v2", live="v1", patience_s=5)
    made.answered(drawn(0, 1, "v1", user="a").model_copy(update=took), share=0.25, live_share=0.75)
    made.settle(LATER)
    assert made.tally.overall["reactions"].mean == pytest.approx(0.25 / 0.75 if late else 0.0)


def test_the_silent_count_as_users():
    made = book()
    for n in range(8):
        made.answered(drawn(n, n, "v1" if n % 4 else "v2", user=f"{n:08x}"), share=0.25, live_share=0.75)
    made.settle(LATER)
    assert made.tally.overall["reactions"].n == 8
    assert made.tally.overall["reactions"].mean == 0.0


def test_a_user_is_one_unit_and_late_reactions_do_not_count():
    made = book()
    row = drawn(0, 1, "v2", user="a")
    again = drawn(50_000, 2, "v2", user="a")
    for one in (row, again):
        made.answered(one, share=0.25, live_share=0.75)
    made.reacted(said(row, "thumbs", 1, after=RULES.react_s + 1))
    made.settle(LATER)
    assert made.tally.overall["reactions"].dump()["exact"] == [(0, 1)]


def test_draws_that_are_none_are_left_out():
    made = book()
    row = drawn(0, 1, "v2", user="a")
    for change in (
        {"assignment": "pinned"}, {"eligible_variants": ["v1", "v3"]}, {"assignment_key_hash": None},
        {"list_log_propensity": -1.5, "choices": []},
    ):  # fmt: skip
        made.answered(row.model_copy(update=change), share=0.25, live_share=0.75)
    made.answered(row, share=0.01, live_share=0.99)
    made.settle(LATER)
    assert made.tally.units == 0


def test_the_last_word_of_a_kind_counts_and_kinds_are_averaged():
    made = book()
    row = drawn(0, 1, "v2", user="a")
    made.answered(row, share=0.25, live_share=0.75)
    made.reacted(said(row, "thumbs", -1, after=1))
    made.reacted(said(row, "thumbs", 1, after=9))
    made.reacted(said(row, "rating", 3, after=4))
    made.reacted(said(row, "dwell", 900, after=5))
    made.settle(LATER)
    assert made.tally.overall["reactions"].mean == pytest.approx(0.5)  # 0.25 / 0.25 of (1 + 0) / 2


def test_it_remembers_users_up_to_a_number_and_then_admits_nobody():
    rules = LiveQualityConfig(max_units=100)
    made = book(rules)
    for n in range(150):
        made.answered(drawn(n, n, "v2", user=f"{n:08x}"), share=0.25, live_share=0.75)
        made.settle(LATER)
    assert made.tally.units == 100


@pytest.mark.parametrize(
    ("kind", "value", "worth"),
    [("thumbs", -1, -1.0), ("rating", 5, 1.0), ("rating", 2, -0.5), ("correction", None, -1.0),
     ("reprompt", None, -1.0), ("copy", 10, None), ("dwell", 10, None), ("comment", None, None)],
)  # fmt: skip
def test_what_reactions_are_worth(kind, value, worth):
    assert reaction(said(drawn(0, 1, "v2", user="a"), kind, value)) == worth
