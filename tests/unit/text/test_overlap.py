"""Overlap of texts: exactly, nearly, as a part; what is a template; what of a conversation is compared."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.records import Message
from flywheel.text.minhash import jaccard
from flywheel.text.nearest import NearIndex
from flywheel.text.overlap import COMMON, Overlap, OverlapIndex, conversation_texts, stronger

CASE = "How many eggs does Janet sell at the farmers market if her ducks lay sixteen a day?"
PADDING = "Here is one more task from the book that we read at school in the second year of it, and it was hard. "


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (CASE, "exact"),
        (f'  "{CASE.upper()}" ', "exact"),
        (CASE.replace("a day", "daily"), "near"),
        (f"{PADDING}{CASE} {PADDING}", "ngram"),
        (f"{PADDING}{CASE.replace('Janet', 'Jane')} {PADDING}", None),  # seven of nine n-grams are others now
        (f"{PADDING}{CASE.replace('day', 'week')} {PADDING}", "ngram"),
        ("How many eggs does Janet sell?", None),
        (PADDING, None),
        ("", None),
        ("?!", None),
    ],
)
def test_kinds(text, kind):
    found = OverlapIndex([CASE, "something else"]).find([text])[0]
    assert (found[CASE].kind if CASE in found else None) == kind
    assert "something else" not in found


def test_a_short_text_is_found_as_itself_and_not_as_a_part():
    index = OverlapIndex(["where is my order"])
    exact, part = index.find(["Where is my order?", "where is my order of two lamps and a table from last week"])
    assert exact == {"where is my order": Overlap("exact", 1.0)}
    assert part == {}


def test_an_n_gram_of_many_texts_is_a_template():
    template = "Say whether the following message of a customer is friendly or not, in one word: {}"
    names = ["ample", "bitter", "cosy", "drab", "eerie", "fair", "grim", "humble", "icy", "jolly", "keen", "lame"]
    assert len(names) > COMMON
    texts = [template.format(f"{name} and then we wrote a long {name} letter to {name}s") for name in names]
    other = template.format("my parcel came, thank you very much for the help with it and good bye")
    assert OverlapIndex(texts[: COMMON - 5]).find([other])[0] == {}, "a shared beginning alone is no overlap"
    long = f"{PADDING}{texts[0]}{PADDING}"
    assert set(OverlapIndex(texts).find([long])[0]) == {texts[0]}


def test_texts_of_equal_form_are_all_found():
    assert set(OverlapIndex(["Hello!", "hello", "other"]).find(["HELLO"])[0]) == {"Hello!", "hello"}


def test_the_stronger_overlap():
    assert stronger(Overlap("ngram", 1.0), Overlap("near", 0.8)).kind == "near"
    assert stronger(Overlap("exact", 1.0), Overlap("near", 0.9)).kind == "exact"
    assert stronger(Overlap("near", 0.8), Overlap("near", 0.9)).score == 0.9


def said(*turns):
    return [Message(role=role, content=text) for role, text in turns]


def test_what_of_a_conversation_is_compared():
    one = said(("system", "Be brief."), ("user", "hi"))
    assert conversation_texts(one) == ["hi"]
    assert conversation_texts(one, "Hello.") == ["hi", "hi\nHello."]
    several = said(("user", CASE), ("assistant", "Nine."), ("user", "thanks"))
    assert conversation_texts(several) == [CASE, f"{CASE}\nNine.\nthanks"], "a short turn of several is nobody's own"


words = st.text(alphabet="ab ", max_size=30)


@settings(max_examples=50, deadline=None)
@given(st.lists(words, max_size=8), st.lists(words, max_size=8))
def test_near_finds_what_comparing_all_pairs_finds(known, asked):
    found = NearIndex(known, 0.8).find(asked)
    for text, near in zip(asked, found, strict=True):
        brute = {place: jaccard(text, other) for place, other in enumerate(known)}
        filled = {place: value for place, value in brute.items() if value >= 0.8 and known[place].strip()}
        assert near == filled or not text.strip()
