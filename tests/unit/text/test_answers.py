"""When two answers say the same."""

import pytest

from flywheel.text.answers import answer_key, parse_object, same_answer


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [('{"a": 1, "b": 2}', '{ "b":2,"a":1 }', True), ('{"a": 1}', '{"a": "1"}', False), ("Yes.", " yes", True),
     ("-5", "5", False), ("[1, 2]", "[1,2]", False), ('{"a": 1}', "a 1", False), ("", " ", True)],
)  # fmt: skip
def test_json_by_value_and_text_by_its_normal_form(left, right, same):
    assert same_answer(left, right) == same_answer(right, left) == same
    assert (answer_key(left) == answer_key(right)) == same


def test_only_objects_are_objects():
    assert parse_object('{"a": [1]}') == {"a": [1]}
    assert parse_object("[1]") is parse_object("{") is parse_object("[" * 100_000) is None
