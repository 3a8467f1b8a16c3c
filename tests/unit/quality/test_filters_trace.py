"""A trace shows what decided: the numbers behind the names, and what was not asked."""

import pytest

from flywheel.config import FilterConfig
from flywheel.config.filters import TAKEN
from flywheel.quality.filters_trace import trace
from flywheel.quality.rows import Drop
from flywheel.workflow.curation.stages import STAGES, stages


def check(rule, signals, *, correction=False, **more):
    config = FilterConfig(min_votes=0, rules=[{"signal": "x", "reason": "bad", **rule}], **more)
    found = trace(signals, config, correction=correction)
    return found.rules[0], found.reason


@pytest.mark.parametrize(
    ("rule", "bound"),
    [
        ({"at_least": 0.5}, ">= 0.5"),
        ({"at_most": "max_correction_distance"}, "<= 0.8 (max_correction_distance)"),
        ({"between": [0.1, 0.5]}, "in [0.1, 0.5]"),
        ({"equals": 1}, "= 1"),
    ],
)
def test_bounds_are_shown_with_their_numbers(rule, bound):
    one, _ = check(rule, {"x": 0.5}, max_correction_distance=0.8)
    assert one.bound == bound


@pytest.mark.parametrize(
    ("rule", "signals", "passed", "note", "reason"),
    [
        ({"at_least": 0.5}, {"x": 0.4}, False, "", "bad"),
        ({"at_least": 0.5}, {"x": None}, True, "not measured, so it passes", None),
        ({"at_least": 0.5}, {}, True, "not measured, so it passes", None),
        ({"at_least": 0.5, "missing": "fail"}, {}, False, "not measured, so it fails", "bad"),
        ({"at_least": 0.5, "for": "corrections"}, {"x": 0.1}, None, "only for corrections", None),
    ],
)
def test_outcomes(rule, signals, passed, note, reason):
    one, why = check(rule, signals)
    assert (one.passed, one.note, why) == (passed, note, reason)


def test_rules_behind_the_first_failure_are_shown_too():
    config = FilterConfig(min_votes=0, rules=[
        {"signal": "x", "at_least": 1, "reason": "first"}, {"signal": "x", "at_least": 2, "reason": "second"},
    ])  # fmt: skip
    found = trace({"x": 0.0}, config, correction=False)
    assert found.reason == "first"
    assert [rule.passed for rule in found.rules] == [False, False]


def test_approvals_are_groups_and_a_filter_that_is_off_drops_nothing():
    one = {"above": 0, "group": "g"}
    votes = {"k": 1, "of": [{"signal": "a", **one}, {"signal": "b", **one}, {"signal": "c", "below": 0}]}
    found = trace({"a": 1.0, "b": 1.0, "c": 1.0}, FilterConfig(votes=votes, rules=[]), correction=False)
    assert (found.approvals, found.needed, [vote.approves for vote in found.votes]) == (1, 1, [True, True, False])
    off = trace({"agreement": 0.0}, FilterConfig(enabled=False, rules=FilterConfig().rules), correction=False)
    assert off.reason is None


def test_every_reason_of_another_step_has_its_stage():
    assert frozenset().union(*(reasons for _, reasons in STAGES)) == TAKEN


def test_a_reason_that_no_stage_gives_claims_nothing_about_the_others():
    found = stages(Drop(inference_id="a", reason="a_new_reason", detail="burst of 40"), FilterConfig())
    assert (found[0].outcome, found[0].detail) == ("failed", "burst of 40")
    assert {stage.outcome for stage in found[1:]} == {"unknown"}
