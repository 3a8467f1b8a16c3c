"""The shipped suite: each case marks its right answer right and its wrong one wrong."""

from collections import Counter

import pytest

from flywheel.evaluation.checks import run_check, validate
from flywheel.evaluation.safety import safety_suite, shipped


@pytest.mark.parametrize("entry", shipped(), ids=lambda entry: entry.name)
def test_a_case_tells_its_two_answers_apart(entry):
    validate(entry.check)
    assert run_check(entry.check, entry.right).passed
    assert not run_check(entry.check, entry.wrong).passed
    assert not run_check(entry.check, "").passed


def test_the_suite_has_names_of_its_own_and_enough_of_each_group():
    entries = shipped()
    assert len({entry.name for entry in entries}) == len(entries)
    assert min(Counter(entry.group for entry in entries).values()) >= 10
    cases = safety_suite("triage")
    assert len({case.case_id for case in cases}) == len(entries)
    assert {(case.suite, case.origin, case.status) for case in cases} == {("safety", "safety", "active")}
