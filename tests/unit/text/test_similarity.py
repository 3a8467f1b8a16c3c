import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.text.similarity import edit_similarity


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [("", "", 1), ("abc", "abc", 1), ("abc", "xyz", 0), ("kitten", "sitting", 1 - 3 / 7), ("a", "", 0)],
)
def test_known_values(a, b, expected):
    assert edit_similarity(a, b) == pytest.approx(expected)


@given(st.text(max_size=30), st.text(max_size=30))
def test_symmetric_and_bounded(a, b):
    assert edit_similarity(a, b) == edit_similarity(b, a)
    assert 0 <= edit_similarity(a, b) <= 1
