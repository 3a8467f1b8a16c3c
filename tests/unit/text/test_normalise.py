import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.text.normalise import normalise


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("  Hello,\n\tWORLD!  ", "hello, world"),
        ("“Straße”", "strasse"),
        ("\uff21\uff22\uff23 12", "abc 12"),
        ("(Refund)", "refund"),
        ("**Billing.**", "billing"),
        ("", ""),
        ("?!", ""),
        (".5", ".5"),
    ],
)
def test_the_same_text_for_a_reader_has_one_form(raw, expected):
    assert normalise(raw) == expected


@pytest.mark.parametrize(("one", "other"), [("-5", "5"), ("50%", "50"), ("$5", "5"), ("0.5", "5"), (".5", "5")])
def test_what_changes_the_meaning_stays(one, other):
    assert normalise(one) != normalise(other)


@given(st.text())
def test_normalising_twice_changes_nothing(text):
    once = normalise(text)
    assert normalise(once) == once
