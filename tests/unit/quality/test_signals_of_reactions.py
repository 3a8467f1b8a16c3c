"""Signals of what people said and did, on examples as products send them."""

import pytest

from flywheel.quality.candidates import build_candidates
from flywheel.quality.follow_ups import next_messages
from flywheel.quality.rows import Evidence, Exclusions
from flywheel.quality.signals import SIGNALS
from flywheel.quality.signals.context import Context, Measured
from flywheel.records import Message

ASKED = "How do I cancel the order I placed this morning?"
ANSWER = "Open Orders, choose the order and press Cancel. Until it is packed nothing is charged."


@pytest.fixture
def value(candidate):
    def make(signal, origin="liked", text=ASKED, answer=ANSWER, target=None, **evidence):
        row = candidate("a", text, target or answer, answer=answer, origin=origin, evidence=Evidence(**evidence))
        return SIGNALS[signal](Measured(row), Context())

    return make


def test_comparison_counts_ties_in_the_denominator(value):
    assert value("comparison", won=3, lost=1) == 0.5
    assert value("comparison", won=1, tied=1) == 0.5
    assert value("comparison", tied=2) == 0
    assert value("comparison") is None
    assert value("comparison", origin="correction", target="x", lost=1) is None  # the loser was the other text


def test_comments_by_tone(value):
    angry = value("comment_sentiment", comments=["This is wrong again, completely useless!"])
    thanks = value("comment_sentiment", comments=["Perfect, exactly what I needed, thank you"])
    assert angry < -0.5 < 0.5 < thanks
    assert value("comment_sentiment", comments=["not helpful at all"]) < 0  # negation is read
    assert value("comment_sentiment", comments=["The total should be 40, not 30"]) == 0
    mixed = ["This is wrong again, completely useless!", "Perfect, exactly what I needed, thank you"]
    assert angry < value("comment_sentiment", comments=mixed) < thanks


def test_comments_in_other_languages_are_not_measured(value):
    assert value("comment_sentiment", comments=["Das ist leider vollkommen falsch und hilft mir nicht weiter"]) is None
    assert value("comment_sentiment") is None


@pytest.mark.parametrize(("signal", "event"), [("copy", "copies"), ("click", "clicks"), ("abandonment", "abandons"),
                                               ("completion", "completions")])  # fmt: skip
def test_events_happened_or_only_others_did_or_nothing_was_reported(value, signal, event):
    other = "clicks" if event != "clicks" else "copies"
    assert value(signal, **{event: 1}) == value(signal, **{event: 7}) == 1
    assert value(signal, **{other: 1}) == 0
    assert value(signal) is None
    assert value(signal, origin="correction", target="better", **{event: 1}) is None


def test_a_reported_share_is_the_completion(value):
    assert value("completion", completions=2, completed_share=0.25) == 0.25
    assert value("completion", dwell_ms=900) == 0


def test_dwell_is_for_the_length(value):
    long = ANSWER * 10
    assert value("dwell", dwell_ms=8_700, answer=long) == pytest.approx(8_700 / len(long))
    assert value("dwell", dwell_ms=8_700) > value("dwell", dwell_ms=8_700, answer=long)
    assert value("dwell", dwell_ms=1_000, answer="Yes.") == value("dwell", dwell_ms=1_000, answer="No, sorry.")
    assert value("dwell", copies=1) is None


def test_asked_again_is_close_and_a_follow_up_is_not(value):
    again = value("reprompt", next_message="how can I cancel my order that I placed this morning??")
    thanks = value("reprompt", next_message="Great. And when will my refund for the router arrive?")
    assert again > 0.7 > 0.5 > thanks
    assert value("reprompt", reprompts=1) == 1  # the product said so
    assert value("reprompt", copies=1) is None


def test_evidence_holds_what_the_signals_read(inference, reaction):
    events = [
        reaction("a", "thumbs", 1.0), reaction("a", "comparison", 1.0), reaction("a", "comparison", 0.0),
        reaction("a", "comment", text="nice"), reaction("a", "comment", text=" "), reaction("a", "completion", 0.5),
        reaction("a", "completion", 1.0),
    ]  # fmt: skip
    rows, _ = build_candidates([inference("a")], events, consented={"a"}, excluded=Exclusions())
    seen = rows[0].evidence
    assert (seen.won, seen.lost, seen.tied, seen.comments, seen.completed_share) == (1, 0, 1, ["nice"], 0.75)


def talk(inference, name, text, **over):
    history = [Message(role="user", content="hi"), Message(role="assistant", content="hello")]
    return inference(name, messages=[*history, Message(role="user", content=text)], **over)


def test_what_came_next_in_the_session_of_the_same_person(inference):
    rows = [talk(inference, name, f"text {name}", session_id="s", subject=who)
            for name, who in (("a", "ada"), ("b", "bob"), ("c", "ada"))]  # fmt: skip
    assert next_messages(rows, {"a", "b", "c"}) == {"a": "text c"}
    assert next_messages(rows, {"a", "b"}) == {}  # c did not consent


def test_a_named_parent_wins_over_the_session(inference):
    rows = [
        talk(inference, "a", "first", session_id="s"),
        talk(inference, "b", "aside", session_id="s"),
        talk(inference, "c", "again", session_id="s", parent_id="a"),
    ]
    assert next_messages(rows, {"a", "b", "c"}) == {"a": "again"}
    stranger = talk(inference, "d", "not mine", parent_id="b", subject="other")
    assert "b" not in next_messages([*rows, stranger], {"a", "b", "c", "d"})


def test_the_next_message_reaches_the_candidate(inference, reaction):
    rows = [talk(inference, "a", "first", session_id="s"), talk(inference, "b", "second", session_id="s")]
    made, _ = build_candidates(rows, [reaction("a", "thumbs", 1.0)], consented={"a", "b"}, excluded=Exclusions())
    assert made[0].evidence.next_message == "second"
