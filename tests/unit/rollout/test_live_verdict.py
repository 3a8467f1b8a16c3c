"""From units to a verdict: what says worse, what it takes to say no worse, and that nothing missing ever does."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.config import GatePolicy, LiveQualityConfig
from flywheel.rollout.gate import Lineage
from flywheel.rollout.live.instrument import Instrument, Voters, measure, voters
from flywheel.rollout.live.levels import levels, planned_for_loss, planned_units
from flywheel.rollout.live.tally import REST, Tally
from flywheel.rollout.live.units import Row, Unit
from flywheel.rollout.live.verdict import failed, judged

RULES = LiveQualityConfig()
POLICY = GatePolicy()
FORM = Instrument("checks", "1", "form", "free", lambda pairs: [0.0] * len(pairs))
JUDGE = Instrument("judge", "j1", "meaning", "judge", lambda pairs: [0.0] * len(pairs))
BOTH = Voters(["checks", "judge"], {"reward": "there is none"})


def unit(n, judge=0.0, check=0.0, *, slices=(), lost=False, ratio=1.0, rows=1, tokens=None) -> Unit:
    scores = None if lost else {"checks": check, "judge": judge}
    log_tokens = None if tokens is None else math.log(tokens)
    made = [Row(n, f"{n}-{k}", list(slices), scores, False, math.log(ratio), log_tokens) for k in range(rows)]
    return Unit(str(n), float(n), made)


def tally_of(units, rules=RULES, policy=POLICY) -> Tally:
    tally = Tally(rules, policy, "shadow")
    tally.add(units)
    return tally


def verdict(units, votes=BOTH, instruments=(FORM, JUDGE), *, policy=POLICY, rules=RULES, budgeted=False):
    return judged(
        tally_of(units, rules, policy), instruments, votes, policy, flow="f", candidate="v2", live="v1",
        budgeted=budgeted,
    )  # fmt: skip


def alternating(count, **how):
    """As many wins as losses, three in ten of each hundred."""
    pattern = [1.0, 0, 0, -1.0, 0, 0, 0]
    return [unit(n, pattern[n % 7], **how) for n in range(count)]


def reason(found, name):
    return next(one for one in found.reasons if one.name == name)


def test_an_equal_candidate_is_undecided_and_then_no_worse():
    early = verdict(alternating(60))
    assert early.state == "undecided"
    assert early.units == early.pairs == 60
    late = verdict(alternating(3_000))
    assert late.state == "no_worse"
    assert abs(late.mean) < 0.01
    assert late.low < 0 < late.high
    assert all(one.passed for one in late.reasons)


def test_better_needs_the_whole_interval_above_0():
    assert verdict([unit(n, float(n % 4 == 0)) for n in range(800)]).state == "better"


def test_a_loss_is_found_by_whoever_votes():
    found = verdict([unit(n, -float(n % 5 == 0)) for n in range(400)])
    assert found.state == "worse"
    assert failed(found.reasons) == ["quality:judge"]
    by_rules = verdict([unit(n, 0.0, -float(n % 10 == 0)) for n in range(400)])
    assert failed(by_rules.reasons) == ["quality:checks"]


def test_what_has_no_vote_is_not_counted():
    losing = [unit(n, -1.0) for n in range(300)]
    found = verdict(losing, Voters(["checks"], {"judge": "it helped to make the candidate"}))
    assert found.state == "undecided"
    assert reason(found, "quality").passed is None
    assert "it helped to make the candidate" in reason(found, "quality").text


def test_rules_on_form_alone_never_say_no_worse():
    found = verdict(alternating(3_000), Voters(["checks"], {}))
    assert reason(found, "quality:checks").passed
    assert found.state == "undecided"


def test_an_instrument_that_measured_only_some_answers_says_nothing():
    units = alternating(3_000)
    for one in units[::5]:
        one.rows[0].scores = {"checks": 0.0}
    assert verdict(units).state == "undecided"
    drawn = Instrument("judge", "j1", "meaning", "judge", lambda pairs: [], share=0.8)
    assert verdict(units, instruments=(FORM, drawn)).state == "no_worse", "of a share that was drawn, it does"


def test_missing_answers_count_against_the_candidate():
    found = verdict([unit(n, lost=n % 5 == 0) for n in range(600)])
    assert found.state == "worse"
    assert failed(found.reasons) == ["missing"]
    assert found.missing == 120
    assert verdict([unit(n, lost=n % 50 == 0) for n in range(3_000)]).state == "no_worse"


def test_a_slow_candidate_and_a_dear_one():
    assert failed(verdict([unit(n, ratio=2.0) for n in range(300)]).reasons) == ["latency"]
    dear = GatePolicy(max_token_ratio=1.2)
    units = [unit(n, tokens=1.6) for n in range(300)]
    assert failed(verdict(units, policy=dear).reasons) == ["cost"]
    assert "cost" not in {one.name for one in verdict(units).reasons}, "a limit that is not set is not asked about"


def test_untimed_pairs_are_no_quick_ones():
    units = alternating(3_000)
    for one in units:
        one.rows[0].log_latency = None
    found = verdict(units)
    assert found.state == "undecided"
    assert reason(found, "latency").passed is None


def test_one_intent_only():
    """A loss in one group of ten that the mean hides."""
    found = verdict(
        [unit(n, -1.0 if n % 10 == 3 and n % 20 != 3 else 1.0 if n % 20 == 4 else 0.0, slices=[f"intent={n % 10}"])
         for n in range(2_000)]
    )  # fmt: skip
    assert found.mean == pytest.approx(0.0)
    assert found.state == "worse"
    assert failed(found.reasons) == ["slice:intent=3"]


def test_groups_beyond_the_limit_are_one_group():
    rules = LiveQualityConfig(max_slices=2)
    tally = tally_of([unit(n, slices=[f"intent={n}"]) for n in range(9)], rules)
    assert list(tally.slices) == ["intent=0", "intent=1", REST]
    assert tally.slices[REST]["judge"].n == 7


def test_sessions_weigh_alike_however_many_requests_they_have():
    found = verdict([unit(0, -1.0, rows=4), *[unit(n, 1.0) for n in range(1, 5)]])
    assert found.pairs == 8
    assert found.mean == pytest.approx(0.6)


def test_levels_sum_to_alpha():
    for count in (1, 2, 3):
        level = levels(RULES, count)
        total = count * level.quality + count * (RULES.max_slices + 1) * level.slice
        assert total + level.missing + level.latency + level.cost == pytest.approx(RULES.alpha)


def test_the_plan_is_what_a_planned_loss_takes():
    planned = planned_for_loss(RULES, 0.1, 0.3, 2)
    losing = [-1.0, 0, -1.0, 0, 1.0, 0, 0, 0, 0, 0]  # 2 in 10 lost, 1 won: minus 10 points, 3 in 10 unequal
    assert verdict([unit(n, losing[n % 10]) for n in range(planned)]).state == "worse"
    both_ways = planned_units(RULES, "shadow", 2)
    assert both_ways > planned, "to see that an equal one is within 5 points takes longer"
    assert verdict(alternating(both_ways)).state == "no_worse"
    assert planned_units(LiveQualityConfig(planned_difference=0.02), "shadow", 2) > 3 * both_ways
    assert planned_units(RULES, "canary", 1) > both_ways


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-1, 1), st.sampled_from([-1.0, 0.0, 1.0]), st.booleans()), max_size=30),
    st.sampled_from([(), ("checks",), ("checks", "judge")]),
)
def test_no_state_but_by_the_rules(values, names):
    units = [unit(n, judge, check, lost=lost) for n, (judge, check, lost) in enumerate(values)]
    found = verdict(units, Voters(list(names), {}))
    outcomes = {one.outcome for one in found.reasons}
    assert (found.state == "worse") == ("fail" in outcomes)
    if found.state in {"better", "no_worse"}:
        assert outcomes == {"pass"}
        assert "judge" in names
    if "missing" in outcomes or not units:
        assert found.state in {"undecided", "worse"}


def lineage(**used) -> Lineage:
    made = {name: frozenset(ids) for name, ids in used.items()}
    return Lineage(judged_by=frozenset({"c"}), used=made, sources={"reward": ["reward/r1"]})


REWARD = Instrument(
    "reward", "r2", "meaning", "model", JUDGE.score, learnt_from=frozenset({"i1"}), manifest="reward/r2"
)
ALL = (FORM, JUDGE, REWARD)
NAMES = ["checks", "reward", "judge"]


def test_an_instrument_apart_from_the_candidate_votes():
    assert voters(ALL, NAMES, lineage(training=["i2"])).names == NAMES


def test_an_instrument_that_made_the_candidate_has_no_vote():
    by_rows = voters(ALL, NAMES, lineage(training=["i1"]))
    assert by_rows.names == ["checks", "judge"]
    assert "training" in by_rows.silent["reward"]
    itself = Instrument("reward", "r1", "meaning", "model", JUDGE.score, manifest="reward/r1")
    assert voters((FORM, itself), NAMES, lineage()).names == ["checks"]


def test_of_unknown_origins_only_rules_vote():
    assert voters(ALL, NAMES, None).names == ["checks", "judge"]


def test_the_configuration_says_who_may_decide_and_what_is_absent_says_why():
    gone = Instrument("reward", "", "meaning", "model", None, absent="set evaluation.reward_model")
    found = voters((FORM, JUDGE, gone), ["reward", "checks", "people"], lineage())
    assert found.names == ["checks"]
    assert found.silent["reward"] == "set evaluation.reward_model"
    assert set(found.silent) == {"reward", "people", "judge"}


def test_a_judge_that_filters_the_training_data_has_no_vote():
    helping = Instrument("judge", "j", "meaning", "judge", JUDGE.score, helped="it is a signal of the filter")
    assert voters((FORM, helping), ["checks", "judge"], lineage()).names == ["checks"]


def test_scores_that_are_none_are_told_by_name():
    with pytest.raises(ValueError, match="'judge' gave 0 scores"):
        measure([Instrument("judge", "j", "meaning", "judge", lambda pairs: [])], [_mirrored()])
    with pytest.raises(ValueError, match="differences lie in"):
        measure([Instrument("judge", "j", "meaning", "judge", lambda pairs: [2.0])], [_mirrored()])
    assert measure([Instrument("judge", "j", "meaning", "judge", lambda pairs: [None])], [_mirrored()]) == [{}]


def _mirrored():
    from live_traffic import asked, brought

    from flywheel.rollout.live.instrument import Mirrored

    row = asked(0, 1)
    return Mirrored(brought(row), row.messages)
