"""A person's decisions, frozen suites, the regression suite and saturation."""

import pytest

from flywheel.config import RegressionConfig
from flywheel.errors import NotFoundInLakeError, UsageError
from flywheel.evaluation.cases import load_cases, retired, store_cases, stored_cases, unusable
from flywheel.evaluation.frozen import freeze, frozen_suites
from flywheel.evaluation.lifecycle import (
    CaseEdit,
    Choice,
    approved,
    change_cases,
    check_of,
    choose,
    edited,
    retired_by,
    saturated,
)
from flywheel.evaluation.mining import UNWRITTEN
from flywheel.evaluation.regression import regression_suite, unmade
from flywheel.records import Check, Message

WRITTEN = CaseEdit(check=Check(kind="contains", expected=["Friday"]))


@pytest.fixture
def proposed(make_case):
    return [
        make_case(n, status="proposed", check=UNWRITTEN, cluster="parcel" if n < 3 else "card", priority=n / 10)
        for n in range(5)
    ]


def test_without_a_check_nothing_is_approved_and_nothing_is_stored(lake, proposed):
    store_cases(lake, "triage", proposed)
    with pytest.raises(UsageError, match="has no check yet"):
        change_cases(lake, "triage", Choice(cluster="parcel"), lambda case: approved(case, reviewer="ann"))
    assert {case.version for case in stored_cases(lake, "triage")} == {1}
    assert load_cases(lake, "triage") == []


def test_a_whole_cluster_is_approved_and_each_change_is_a_version_with_its_reviewer(lake, proposed):
    store_cases(lake, "triage", proposed)
    choice = Choice(cluster="parcel", status="proposed")
    done = change_cases(lake, "triage", choice, lambda case: approved(case, reviewer="ann", edit=WRITTEN))
    assert [(case.version, case.status, case.reviewer, case.settled) for case in done] == [
        (2, "active", "ann", True)
    ] * 3
    assert [case.case_id for case in load_cases(lake, "triage", ["failures"])] == [case.case_id for case in done]
    one = Choice(ids=["000000000001"])
    move = CaseEdit(suite="golden", messages=[Message(role="user", content="where is it?")])
    (moved,) = change_cases(lake, "triage", one, lambda case: edited(case, move, reviewer="bob"))
    assert (moved.version, moved.suite, moved.status, moved.reviewer) == (3, "golden", "active", "bob")
    assert moved.origin == "failure", "where it comes from, so that an erasure finds it"
    (same,) = change_cases(lake, "triage", one, lambda case: edited(case, move, reviewer="cleo"))
    assert same == moved


def test_cases_are_chosen_by_priority_and_all_conditions(proposed, make_case):
    every = [*proposed, make_case(77, "golden")]
    assert [case.case_id[-1] for case in choose(every, Choice())] == ["4", "3", "2", "1", "0", "7"]
    assert [case.case_id[-1] for case in choose(every, Choice(cluster="card", status="proposed"))] == ["4", "3"]
    assert choose(every, Choice(suite="golden", status="retired")) == []
    with pytest.raises(UsageError, match="6 cases begin with"):
        choose(every, Choice(ids=["0000"]))
    with pytest.raises(UsageError, match="no case has the id"):
        choose(every, Choice(ids=["abc"]))


def test_a_choice_of_nothing_changes_nothing(lake, proposed):
    store_cases(lake, "triage", proposed)
    for choice in (Choice(), Choice(cluster="none")):
        with pytest.raises(UsageError, match="no such case"):
            change_cases(lake, "triage", choice, lambda case: retired_by(case, reviewer="ann"))


@pytest.mark.parametrize(
    ("edit", "said"),
    [(CaseEdit(check=Check(kind="regex", expected="(")), "does not compile"), (CaseEdit(suite="golden@1"), "never")],
)
def test_an_edit_that_makes_no_case_is_refused(make_case, edit, said):
    with pytest.raises(UsageError, match=said):
        edited(make_case(1), edit, reviewer="ann")


def test_an_edit_can_take_the_slice_away_and_nothing_else(make_case):
    case = edited(make_case(1, slice="refund"), CaseEdit(slice=None, check=None, suite=None), reviewer="ann")
    assert (case.slice, case.check.expected, case.suite) == (None, "x", "failures")


@pytest.mark.parametrize(
    ("kind", "typed", "expected"),
    [
        ("json", '{"intent": "x"}', {"intent": "x"}),
        ("contains", '["a", "b"]', ["a", "b"]),
        ("contains", "Friday", "Friday"),
        ("exact", "12", "12"),
        ("regex", "[0-9]+", "[0-9]+"),
        ("regex", "[1]", "[1]"),
    ],
)
def test_a_check_as_typed(kind, typed, expected):
    assert check_of(kind, typed) == Check(kind=kind, expected=expected)


@pytest.mark.parametrize(("kind", "typed"), [("guess", "x"), ("regex", "("), ("json", "{"), ("contains", "[]")])
def test_a_check_that_marks_nothing_is_refused(kind, typed):
    with pytest.raises(UsageError):
        check_of(kind, typed)


def test_a_turn_does_not_write_over_a_person_but_retires_what_may_no_longer_be_used(lake, make_case):
    case = make_case(1, inference_id="i1")
    store_cases(lake, "triage", [edited(case, WRITTEN, reviewer="ann")])
    assert store_cases(lake, "triage", [case]) == 0
    assert retired(stored_cases(lake, "triage"), [], "failures") == []
    assert unusable(stored_cases(lake, "triage"), {"i2"}) == []
    gone = unusable(stored_cases(lake, "triage"), {"i1"})
    assert store_cases(lake, "triage", gone) == 1
    assert load_cases(lake, "triage") == []
    assert unusable(stored_cases(lake, "triage"), {"i1"}) == []
    assert store_cases(lake, "triage", [case]) == 1, "consent came back: the case as the turn makes it"


def freeze_golden(lake):
    return freeze(lake, load_cases(lake, "triage", ["golden"]), flow="triage", suite="golden", code_version="t")


def test_a_frozen_suite_keeps_its_versions_and_its_name(lake, make_case):
    first = [make_case(n, "golden", inference_id=f"i{n}") for n in range(4)]
    store_cases(lake, "triage", first)
    name = freeze_golden(lake)
    assert name == freeze_golden(lake)
    change_cases(lake, "triage", Choice(ids=["000000000000"]), lambda case: edited(case, WRITTEN, reviewer="ann"))
    change_cases(lake, "triage", Choice(ids=["000000000001"]), lambda case: retired_by(case, reviewer="ann"))
    store_cases(lake, "triage", unusable(stored_cases(lake, "triage"), {"i2"}))
    frozen = load_cases(lake, "triage", [name])
    assert [(case.case_id[-1], case.version, case.suite, case.check.expected) for case in frozen] == [
        ("0", 1, name, "x"), ("1", 1, name, "x"), ("3", 1, name, "x"),
    ]  # fmt: skip
    assert [case.version for case in load_cases(lake, "triage", ["golden"])] == [2, 1]
    assert freeze_golden(lake) != name
    assert list(frozen_suites(lake, "triage").values()) == [4, 2]
    with pytest.raises(UsageError, match="one after the other"):
        load_cases(lake, "triage", [name, "golden"])


@pytest.mark.parametrize("name", ["golden@000000000000", "other@"])
def test_a_suite_that_nobody_froze_is_named(lake, make_case, name):
    store_cases(lake, "triage", [make_case(1, "golden")])
    freeze_golden(lake)
    with pytest.raises(NotFoundInLakeError, match=f"no suite '{name}'"):
        load_cases(lake, "triage", [name])


def test_only_a_plain_suite_with_cases_is_frozen(lake):
    with pytest.raises(UsageError, match="no active case"):
        freeze_golden(lake)
    with pytest.raises(UsageError, match="frozen already"):
        freeze(lake, [], flow="triage", suite="golden@1", code_version="t")


MODELS = [f"v{n}" for n in range(7)]


def test_saturated_is_what_the_last_models_all_passed(make_case, marked):
    cases = [make_case(n) for n in range(5)] + [make_case(9, "golden"), make_case(10, "safety"), make_case(11, "guard")]
    results = [marked(case, model) for case in cases for model in MODELS[2:]]
    results += [marked(cases[0], "v1", passed=False)]  # before the last five
    results += [marked(cases[1], "v6", passed=False, run_id="longer answers")]
    results += [marked(cases[2], "v6", passed=False, error="engine died")]
    results += [marked(cases[3], "v1", passed=False)]
    results = [row for row in results if row.case_id != cases[3].case_id or row.model_version != "v6"]
    results = [row for row in results if row.case_id != cases[4].case_id or row.model_version not in {"v5", "v6"}]
    found = saturated(cases, results, MODELS, least=5, kept={"guard"})
    # 1 failed once, 3 failed with the fifth model from the end, 4 was asked of three models only
    assert [case.case_id for case in found] == [cases[0].case_id, cases[2].case_id]
    assert (
        saturated([case.model_copy(update={"version": 2}) for case in cases], results, MODELS, least=5, kept=()) == []
    )


def test_regression_holds_what_models_that_were_live_passed_and_changes_little(make_case, marked):
    cases = [make_case(n, "random", origin="random", inference_id=f"i{n}") for n in range(30)]
    results = [marked(case, model) for case in cases[:20] for model in ("v1", "v2")]
    results += [marked(case, model) for case in cases[20:] for model in ("v1", "never live")]
    policy = RegressionConfig(models=2, max_cases=12)
    made = regression_suite(cases, results, {"v1", "v2"}, policy=policy, seed=0)
    assert len(made) == 12
    assert {case.inference_id for case in made} <= {f"i{n}" for n in range(20)}
    assert {(case.suite, case.origin, case.settled, case.version) for case in made} == {
        ("regression", "regression", False, 1)
    }
    other = regression_suite(cases, results, {"v1", "v2"}, policy=policy, seed=1)
    assert {case.case_id for case in other} != {case.case_id for case in made}
    kept = regression_suite([*cases, *made], results, {"v1", "v2"}, policy=policy, seed=1)
    assert {case.case_id for case in kept} == {case.case_id for case in made}
    gone = [*(case.model_copy(update={"status": "retired"}) for case in cases), *made]
    assert regression_suite(gone, results, {"v1", "v2"}, policy=policy, seed=0) == []


def test_a_flow_without_history_has_no_regression_suite_yet_but_one_that_lost_its_cases_has(make_case, marked):
    case = make_case(1, "random", origin="random", inference_id="i1")
    policy = RegressionConfig(models=2, max_cases=12)
    assert "1 model(s)" in (unmade([case], [marked(case, "v1")], {"v1"}, policy=policy) or "")
    failed = [marked(case, "v1"), marked(case, "v2", passed=False)]
    assert "no case was passed by 2" in (unmade([case], failed, {"v1", "v2"}, policy=policy) or "")
    (copy,) = regression_suite([case], [marked(case, "v1"), marked(case, "v2")], {"v1", "v2"}, policy=policy, seed=0)
    retired = copy.model_copy(update={"status": "retired"})
    assert unmade([case, retired], [], {"v1"}, policy=policy) is None
    assert unmade([case], [marked(copy, "v1")], {"v1"}, policy=policy) is None  # the rows went, the marks stayed


def test_withdrawn_consent_reaches_frozen_cases_that_a_person_had_retired(lake, make_case):
    case = make_case(1, "golden", inference_id="i1")
    store_cases(lake, "triage", [case])
    name = freeze(lake, [case], flow="triage", suite="golden", code_version="t")
    (closed,) = change_cases(lake, "triage", Choice(ids=[case.case_id]), lambda one: retired_by(one, reviewer="ann"))
    assert [one.case_id for one in load_cases(lake, "triage", [name])] == [case.case_id]
    store_cases(lake, "triage", unusable([closed], {"i1"}))
    assert load_cases(lake, "triage", [name]) == []
    assert unusable(stored_cases(lake, "triage"), {"i1"}) == []  # said once
    store_cases(lake, "triage", [case])  # consent is back, and a turn makes the case again
    (now,) = stored_cases(lake, "triage")
    assert (now.status, now.settled) == ("retired", True)  # what the person decided holds
    assert [one.case_id for one in load_cases(lake, "triage", [name])] == [case.case_id]


def test_only_what_was_drawn_enters_the_random_sample(make_case):
    written = make_case(1, "golden", origin="golden")
    with pytest.raises(UsageError, match="was not drawn at random"):
        approved(written, reviewer="ann", edit=CaseEdit(suite="random"))
    drawn = make_case(2, "random", origin="random")
    assert edited(drawn, CaseEdit(suite="random", check=WRITTEN.check), reviewer="ann").suite == "random"
