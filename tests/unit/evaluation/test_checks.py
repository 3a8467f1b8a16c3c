"""Every kind of check: what passes, what fails and why, and what is refused."""

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.errors import UsageError
from flywheel.evaluation.checks import (
    CHECKS,
    Item,
    Opinion,
    Scorers,
    check_for,
    mark_all,
    run_check,
    validate,
    versions,
)
from flywheel.evaluation.checks.code import code_of
from flywheel.records import Check, CheckKind, Message

TRIAGE = {"intent": "refund", "product": "camera", "urgency": 2}
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object", "required": ["intent"], "properties": {"intent": {"enum": ["refund", "order"]}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "expected", "answer", "passed", "score"),
    [
        ("exact", "Yes", " Yes\n", True, 1),
        ("exact", "Yes", "yes", False, 0),
        ("normalised", "Yes.", '  "YES" ', True, 1),
        ("normalised", "-5", "5", False, 0),
        ("json", TRIAGE, '{"urgency": 2.0, "product":"camera", "intent":"refund", "extra": 1}', True, 1),
        ("json", TRIAGE, '{"intent":"refund","product":"phone","urgency":2}', False, 2 / 3),
        ("json", TRIAGE, '{"intent":"refund","product":"camera"}', False, 2 / 3),
        ("json", TRIAGE, '{"intent":"Refund","product":"camera","urgency":2}', False, 2 / 3),
        ("json", TRIAGE, '{"intent":"refund"', False, 0),
        ("json", TRIAGE, "[1]", False, 0),
        ("json", TRIAGE, 'Sure! {"intent":"refund","product":"camera","urgency":2}', False, 0),
        ("json", '{"a": 1}', '{"a": 1}', True, 1),
        ("json", {"a": True}, '{"a": 1}', False, 0),
        ("json", [1, {"b": 2}], '[1, {"b": 2}]', True, 1),
        ("json", [1, 2], "[1]", False, 0.5),
        ("json", [1, 2], "[2, 1]", False, 0),
        ("json", ["a"], '["a", "b", "c"]', False, 1 / 3),
        ("json", [], "[]", True, 1),
        ("json", "{}", "{}", True, 1),
        ("json", "{}", '{"iban": "invented"}', False, 0),
        ("json", "{}", "[]", False, 0),
        ("json", [1], '{"a": 1}', False, 0),
        ("json", SCHEMA, '{"intent": "refund"}', True, 1),
        ("json", SCHEMA, '{"intent": "dance"}', False, 0),
        ("contains", "Refund", "we start a refund now", True, 1),
        ("contains", ["refund", "sorry"], "A refund.", False, 0.5),
        ("regex", r"ORD-\d{4}", "your order ORD-1234 left", True, 1),
        ("regex", r"^ORD$", "none", False, 0),
    ],
)
def test_marks(kind, expected, answer, passed, score):
    result = run_check(Check(kind=kind, expected=expected), answer)
    assert result.passed is passed
    assert result.score == pytest.approx(score)
    assert bool(result.detail) is not passed


def test_json_fields_select_and_reach_inside():
    answer = '{"intent": "refund", "who": {"name": "Ann", "age": 3}}'
    expected = {"intent": "order", "who": {"name": "Ann", "age": 4}}
    assert run_check(Check(kind="json", expected=expected, fields=["who.name"]), answer).passed
    result = run_check(Check(kind="json", expected=expected, fields=["who.name", "who.age"]), answer)
    assert (result.passed, result.score, result.detail) == (False, 0.5, "wrong: who.age")
    assert not run_check(Check(kind="json", expected={"a": 1}, fields=["b"]), '{"a": 1}').passed, "a field nobody has"


@pytest.mark.parametrize(
    ("expected", "answer", "passed"),
    [
        ("72", "48 + 24 = 72.", True),
        ("72", "72 clips, of which 24 in May", False),
        ("1250", "The total is $1,250.00!", True),
        ("1,250", "1250", True),
        ("1250", "1\u202f250", True),
        ("1250", "1,25,0", False),
        ("-5", "It is \u22125 degrees", True),
        ("4", "made by model gpt-4", True),
        ("2", "5 - 2", True),
        ("2", "5-2", True),
        (".5", "0.5", True),
        ("1e3", "about 1000", True),
        ("12.5%", "0.125", True),
        ("12.5%", "12.5", True),
        ("12.5", "12.5 %", True),
        ("0.125", "12.5 percent", True),
        ("12.5%", "1.25", False),
        ("40 ± 2", "41.9", True),
        ("40 ± 2", "42.1", False),
        ("-40 +/- 5%", "-42", True),
        ("40 ± 5%", "42.01", False),
        ("5", "none", False),
        ("5", "\u0665 \u00b2", True),
    ],
)
def test_numbers(expected, answer, passed):
    check = Check(kind="numeric", expected=expected)
    validate(check)
    assert run_check(check, answer).passed is passed


def test_a_number_with_a_tolerance_or_in_a_field():
    close = Check(kind="numeric", expected="0.3", tolerance=0.01)
    assert run_check(close, "0.31").passed, "at the tolerance, exactly: numbers are decimal"
    assert not run_check(close, "0.3101").passed
    field = Check(kind="numeric", expected="19.90", fields=["total.net"])
    assert run_check(field, '{"total": {"net": 19.9}, "n": 3}').passed
    assert run_check(field, '{"total": {"net": "$19.90"}}').passed
    for answer in ("19.9", '{"total": {"net": true}}', '{"total": 19.9}', "["):
        assert run_check(field, answer).detail == "no number in 'total.net'"


def test_a_pattern_that_never_ends_fails_its_case_in_time():
    started = time.monotonic()
    result = run_check(Check(kind="regex", expected=r"(a|a)*(a|a)*(a|a)*$"), "a" * 5_000 + "b")
    assert not result.passed
    assert "longer than" in result.detail
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (Check(kind="exact", expected={"a": 1}), "expects a text"),
        (Check(kind="normalised", expected=["a"]), "expects a text"),
        (Check(kind="contains", expected=[]), "none of them empty"),
        (Check(kind="contains", expected=" "), "none of them empty"),
        (Check(kind="regex", expected="(a"), "does not compile"),
        (Check(kind="numeric", expected="many"), "expects a number"),
        (Check(kind="numeric", expected="4 ± 1", tolerance=1), "one tolerance"),
        (Check(kind="numeric", expected="4", tolerance=-1), "not negative"),
        (Check(kind="numeric", expected="4", fields=["a", "b"]), "reads one field"),
        (Check(kind="similarity", expected="a"), "needs a threshold"),
        (Check(kind="similarity", expected=" ", threshold=0.5), "a text to compare"),
        (Check(kind="judge", expected=""), "the criterion"),
        (Check(kind="judge", expected="is polite", threshold=5), "threshold in"),
        (Check(kind="reward", expected=""), "a reference answer"),
        (Check(kind="reward", expected="a", threshold=math.inf), "finite"),
        (Check(kind="code", expected="assert ("), "tests that are no Python"),
        (Check(kind="code", expected=" "), "expects tests"),
        (Check(kind="json", expected="{a"), "expects JSON"),
        (Check(kind="json", expected={"a": 1}, fields=["b"]), "'b', which it does not expect"),
        (Check(kind="json", expected={"$schema": SCHEMA["$schema"], "type": 3}), "schema that is not one"),
    ],
)
def test_checks_that_cannot_mark_are_refused(check, message):
    with pytest.raises(UsageError, match=message):
        validate(check)


VALID = [
    Check(kind="exact", expected="a"), Check(kind="normalised", expected="a"), Check(kind="json", expected=TRIAGE),
    Check(kind="json", expected=SCHEMA), Check(kind="numeric", expected="1"),
    Check(kind="json", expected=[1]), Check(kind="contains", expected=["a"]), Check(kind="regex", expected="a+"),
]  # fmt: skip


@given(st.text(), st.sampled_from(VALID))
def test_no_answer_raises_and_the_score_is_one_exactly_when_passed(answer, check):
    validate(check)
    result = run_check(check, answer)
    assert 0 <= result.score <= 1
    assert result.passed == (result.score == 1)


def test_deeply_nested_answers_fail_quietly():
    assert not run_check(Check(kind="json", expected={"a": 1}), "[" * 100_000).passed


def test_every_kind_has_a_check():
    assert set(CHECKS) == set(CheckKind.__args__)


def test_the_check_that_fits_an_answer():
    assert check_for('{"a": 1}') == Check(kind="json", expected={"a": 1})
    assert check_for("[1]").kind == check_for("42").kind == check_for("hello").kind == "normalised"
    for text in ('{"a": 1}', "[1]", "42", "Hello."):
        assert run_check(check_for(text), text).passed


SCORED = {"similarity": 0.8, "judge": 0.5, "reward": 0.0, "code": None}


def scored(kind: str) -> Check:
    return Check(kind=kind, expected="assert True", threshold=SCORED[kind])


@pytest.mark.parametrize("kind", SCORED)
def test_a_check_without_its_scorer_is_refused_before_the_run(kind):
    validate(scored(kind))
    with pytest.raises(UsageError, match=f"'{kind}' needs a scorer"):
        validate(scored(kind), Scorers())
    with pytest.raises(UsageError, match="install it"):
        validate(scored(kind), Scorers(absent={kind: "install it"}))
    with pytest.raises(UsageError, match="needs a scorer"):
        run_check(scored(kind), "any")


@pytest.mark.parametrize(
    ("kind", "opinion", "passed", "score"),
    [
        ("similarity", Opinion(0.8), True, 1),
        ("similarity", Opinion(0.7), False, 0.7),
        ("similarity", Opinion(-0.2), False, 0),
        ("judge", Opinion(None, "the judge abstained"), False, 0),
        ("judge", Opinion(math.nan), False, 0),
        ("judge", Opinion(0.49), False, 0.49),
        ("reward", Opinion(0.0), True, 1),
        ("reward", Opinion(-math.log(3)), False, 0.25),
        ("reward", Opinion(-1e6), False, 0),
        ("reward", Opinion(None), False, 0),
        ("code", Opinion(1.0), True, 1),
        ("code", Opinion(0.0, "AssertionError"), False, 0),
    ],
)
def test_opinions_become_marks(kind, opinion, passed, score):
    scorers = Scorers(by_kind={kind: lambda items: [opinion] * len(items)})
    result = run_check(scored(kind), "any", scorers=scorers)
    assert result.passed is passed
    assert result.score == pytest.approx(score)
    assert bool(result.detail) is not passed
    assert not opinion.detail or passed or result.detail == opinion.detail


def test_many_answers_are_scored_in_one_call_a_kind_and_keep_their_places():
    calls = []

    def scorer(items):
        calls.append([item.answer for item in items])
        return [Opinion(float(item.answer)) for item in items]

    asked = [Message(role="user", content="?")]
    exact = Check(kind="exact", expected="1")
    checks = [scored("judge"), exact, scored("similarity"), scored("judge"), exact]
    items = [Item(asked, check, answer) for check, answer in zip(checks, ["0.9", "1", "0.3", "0.2", "0"], strict=True)]
    marks = mark_all(items, Scorers(by_kind={"judge": scorer, "similarity": scorer}))
    assert calls == [["0.9", "0.2"], ["0.3"]]
    assert [mark.passed for mark in marks] == [True, True, False, False, False]
    with pytest.raises(ValueError, match="zip"):  # a scorer that loses an answer never shifts the others
        mark_all(items, Scorers(by_kind={"judge": lambda items: [], "similarity": scorer}))


def test_what_marks_is_part_of_a_results_identity():
    scorers = Scorers(versions={"judge": "judge-1", "similarity": "wordllama"})
    assert versions([scored("judge"), Check(kind="exact", expected="1")], scorers) == {"judge": "judge-1"}
    assert versions([Check(kind="exact", expected="1")], scorers) == {}


def test_the_code_of_an_answer():
    assert code_of("x = 1") == "x = 1"
    assert code_of("Sure:\n```python\nx = 1\n```\nor\n~~~\nx = 2\n~~~\nDone.") == "x = 2\n"
    assert code_of("```\ncut off") == "cut off"
