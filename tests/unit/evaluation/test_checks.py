"""Every kind of check: what passes, what fails and why, and what is refused."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.errors import UsageError
from flywheel.evaluation.checks import CHECKS, check_for, run_check, validate
from flywheel.records import Check, CheckKind

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
        ("json", [1, 2], "[1]", False, 0),
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
    Check(kind="json", expected=SCHEMA), Check(kind="contains", expected=["a"]), Check(kind="regex", expected="a+"),
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
