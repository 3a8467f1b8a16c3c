import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.demo.product import Generator
from flywheel.text.novelty import FIRST_WORDS, Said, new_topics


def tickets(seed, count, keep):
    """Messages of the demo's product whose intent ``keep`` accepts."""
    stream = Generator(seed, new_share=0.5)
    found = []
    while len(found) < count:
        ticket = stream.ticket()
        if keep(ticket.intent):
            found.append(ticket)
    return found


def by_strangers(texts, prefix="p"):
    return [Said(f"{prefix}{number}", text) for number, text in enumerate(texts)]


EARLIER = by_strangers([f"my {thing} does not work" for thing in ("router", "phone", "camera", "watch")] * 20, "e")


def test_most_new_intents_are_found_among_the_old_ones():
    intents = sorted({ticket.intent for ticket in Generator(1, new_share=0.5).tickets(400)})
    found = 0
    for seed, new in enumerate(intents):
        earlier = tickets(seed, 300, lambda intent, new=new: intent != new)
        recent = tickets(seed + 50, 50, lambda intent, new=new: intent != new)
        recent += tickets(seed + 90, 20, lambda intent, new=new: intent == new)
        topics = new_topics(by_strangers(row.text for row in recent), by_strangers((r.text for r in earlier), "e"))
        own = [topic for topic in topics if sum(recent[i].intent == new for i in topic.members) > topic.people / 2]
        found += bool(own)
    assert found >= 0.8 * len(intents)


def test_where_nothing_changed_there_is_seldom_anything_new():
    found = 0
    for seed in range(30):
        rows = by_strangers(row.text for row in tickets(seed, 370, lambda _: True))
        found += bool(new_topics(rows[300:], rows[:300]))
    assert found <= 3  # alpha is 5 %


def test_the_first_texts_are_not_new_against_nothing():
    assert new_topics(by_strangers(["refund please"] * 30), []) == []
    assert new_topics([], EARLIER) == []


def test_a_topic_is_named_by_its_longest_phrase_and_each_text_belongs_to_one():
    recent = by_strangers(["the payment bounced", "why was the payment refused"] * 10 + ["my router does not work"] * 3)
    topics = new_topics(recent, EARLIER)
    assert [topic.phrase for topic in topics] == ["the payment"]
    assert topics[0].members == list(range(20))
    assert topics[0].people == 20


def test_one_person_who_repeats_something_is_no_trend():
    repeated = [Said("ann", "payment bounced")] * 30 + by_strangers(["payment bounced"] * 3)
    assert new_topics(repeated, EARLIER) == []
    assert new_topics(by_strangers(["payment bounced"] * 12), EARLIER)[0].people == 12


def test_what_was_as_frequent_before_is_not_new():
    assert new_topics(by_strangers([said.text for said in EARLIER[:40]]), EARLIER) == []


def test_writing_without_spaces_has_words_too():
    topics = new_topics(by_strangers(["我想退款", "退款在哪里"] * 8), by_strangers(["我的手机坏了"] * 60, "e"))
    assert topics[0].phrase == "退 款"


def test_long_texts_are_read_up_to_a_limit():
    late = by_strangers([" ".join(["word"] * FIRST_WORDS) + " payment"] * 20)
    assert [topic.phrase for topic in new_topics(late, EARLIER)] == ["word word"]


people = st.builds(Said, st.sampled_from("abcdefgh"), st.text(max_size=20))


@settings(max_examples=80, deadline=None)
@given(st.lists(people, max_size=30), st.lists(people, max_size=30), st.integers(1, 6))
def test_whatever_is_said_members_are_positions_and_never_shared(recent, earlier, least):
    topics = new_topics(recent, earlier, least=least, alpha=0.5)
    members = [item for topic in topics for item in topic.members]
    assert len(members) == len(set(members))
    for topic in topics:
        assert all(0 <= item < len(recent) for item in topic.members)
        assert topic.people == len({recent[item].person for item in topic.members}) >= least
        assert 0 <= topic.p <= 0.5
    assert topics == new_topics(recent, earlier, least=least, alpha=0.5)


@pytest.mark.parametrize("text", ["", "\x00", "\ud800", "😀", "\n\n", "___"])
def test_texts_without_words_have_no_topic(text):
    assert new_topics(by_strangers([text] * 10), EARLIER) == []
