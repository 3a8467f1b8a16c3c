import time
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.capture.anonymise import Anonymiser
from flywheel.capture.leaks import scan
from flywheel.config import PrivacyConfig
from flywheel.errors import ConfigError
from flywheel.records import Feedback, Inference, Message, ShadowPair
from flywheel.text.personal_data import detect
from flywheel.text.surrogate_names import SURROGATE_NAMES

NOW = datetime(2025, 3, 1, tzinfo=UTC)
KNOWN = ["Anna", "Maria Lopez", "Smith", "Robin", "Ng", f"{SURROGATE_NAMES[0]} Smith", SURROGATE_NAMES[1]]

WIDE_CARD = "\uff14" + "\uff11" * 15
ARABIC_PHONE = "+49 30 1234567".translate({ord("0") + digit: 0x0660 + digit for digit in range(10)})


@pytest.fixture(scope="module")
def privacy(tmp_path_factory):
    path = tmp_path_factory.mktemp("names") / "names.txt"
    path.write_text("# people\n" + "\n".join(KNOWN) + "\n\n", encoding="utf-8")
    return PrivacyConfig(names_file=path)


@pytest.fixture(scope="module")
def anonymiser(privacy):
    return Anonymiser(b"k" * 32, privacy)


PLAIN = ["where", "is", "my", "order", "#48213-77", "or", "ORD-123456", ",", "it's", "12:30", "on", "2023-11-05", "!"]
PIECES = st.one_of(
    st.sampled_from(
        [
            "Anna", "maria lopez", "Smith", SURROGATE_NAMES[0], "anna.b@gmx.de", "robin@example.com",
            "4111 1111 1111 1111", "5555555555554444", "DE89 3704 0044 0532 0130 00", "10.1.2.3", "2a00:1450::1",
            "(978) 645-9740", "978.645.9740x12", "+49 30 1234567", "030 1234567", "+44 (0)20 7946 0018",
            "#48213-77", "ORD-123456", "order", "call", "phone", "2023-11-05",
            "anna\u200b@gmail.com", "anna\uff20gmail.com", "4111\u00ad1111\u00ad1111\u00ad1111",
            WIDE_CARD, ARABIC_PHONE, "DE89  3704 0044\n0532 0130 00", "An\u00adna", "\u200b", "\n", "\uff14",
            "12", "7", "2", "0", "+", "-", ".", ":", "/", "@", "\\n", "x", "(", ")",
        ]
    ),
    st.text(alphabet="0123456789 -.+()", max_size=16),
    st.text(max_size=8),
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=10).flatmap(
    lambda parts: st.sampled_from(["", " ", ", ", "\u200b"]).map(lambda gap: gap.join(parts))
)


@settings(max_examples=1_500, deadline=None)
@given(TEXTS)
def test_nothing_personal_is_left_and_twice_is_once(privacy, anonymiser, text):
    once = anonymiser.text(text, "c")
    assert scan([("t", once)], privacy) == []
    assert anonymiser.text(once, "c") == once
    assert anonymiser.text(once, "another conversation") == once


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("anna\u200b@gmail.com", "anna@gmail.com"),
        ("anna\uff20gmail.com", "anna@gmail.com"),
        ("4111\u00ad1111\u00ad1111\u00ad1111", "4111111111111111"),
        (WIDE_CARD, "4111111111111111"),
        (ARABIC_PHONE, "+49 30 1234567"),
    ],
)
def test_a_value_written_otherwise_has_the_surrogate_of_its_plain_form(privacy, anonymiser, written, plain):
    assert anonymiser.text(f"é {written} \u200b!", "c") == f"é {anonymiser.text(plain, 'c')} \u200b!"
    assert [leak.value for leak in scan([("t", written)], privacy)] == [written]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "where",
                "is",
                "my",
                "order",
                "#48213-77",
                "or",
                "ORD-123456",
                ",",
                "it's",
                "12:30",
                "on",
                "2023-11-05",
                "!",
            ]
        ),
        max_size=20,
    )
)
def test_a_text_without_personal_data_is_returned_as_it_is(anonymiser, words):
    assert anonymiser.text(" ".join(words), "c") == " ".join(words)


SAID = "I am Anna, anna.b@gmx.de"


def inference(**changes):
    fields = {
        "inference_id": "i1", "flow": "triage", "ts": NOW, "subject": "s", "model_version": "m", "session_id": "sess",
        "messages": [Message(role="user", content=SAID), Message(role="assistant", content="Hi Anna")],
        "choices": ['{"reply": "Dear\\nAnna, we wrote to anna.b@gmx.de"}'],
        "params": {"temperature": 0.5, "user": "anna.b@gmx.de", "stop": ["Anna"], "n": 1},
        "tags": {"from": "anna.b@gmx.de"},
    }  # fmt: skip
    return Inference(**{**fields, **changes})


def test_every_text_of_an_inference_is_replaced_consistently(anonymiser):
    clean = anonymiser.inference(inference())
    assert "anna" not in clean.model_dump_json().lower()
    email = detect(clean.messages[0].content, detectors=["email"])[0].value
    assert email in clean.choices[0]
    assert clean.tags == {"from": email}
    name = clean.messages[1].content.removeprefix("Hi ")
    assert f"\\n{name}," in clean.choices[0]
    assert clean.params == {"temperature": 0.5, "stop": [name], "n": 1}
    assert clean.inference_id == "i1"


def test_the_conversation_is_the_session_else_the_row(anonymiser):
    one = anonymiser.inference(inference())
    same = anonymiser.inference(inference(inference_id="i2"))
    other = anonymiser.inference(inference(session_id="elsewhere"))
    alone = anonymiser.inference(inference(session_id=None))
    assert one.messages == same.messages
    assert len({row.messages[0].content for row in (one, other, alone)}) == 3
    assert alone.messages[0].content == anonymiser.text(SAID, "i1")


def test_feedback_and_shadow_answers_follow_their_conversation(anonymiser):
    clean = anonymiser.inference(inference())
    feedback = Feedback(
        feedback_id="f",
        inference_id="i1",
        flow="triage",
        ts=NOW,
        subject="s",
        kind="correction",
        text="I am Anna, anna.b@gmx.de",
    )
    assert anonymiser.feedback(feedback, "sess").text == clean.messages[0].content
    assert anonymiser.feedback(feedback.model_copy(update={"text": None}), "sess").text is None
    pair = ShadowPair(
        inference_id="i1",
        flow="triage",
        ts=NOW,
        subject="s",
        candidate="c",
        live_version="m",
        live_answer="Hi Anna",
        candidate_answer=None,
        error="bad input: Anna",
    )
    made = anonymiser.shadow_pair(pair, "sess")
    assert made.live_answer == clean.messages[1].content
    assert made.candidate_answer is None
    assert "Anna" not in made.error


def test_detectors_that_are_off_change_nothing():
    anonymiser = Anonymiser(b"k", PrivacyConfig(detectors=["email"]))
    assert anonymiser.text("978-645-9740", "c") == "978-645-9740"


def test_a_names_file_that_is_missing_is_a_clear_error(tmp_path):
    with pytest.raises(ConfigError, match=r"privacy\.names_file"):
        Anonymiser(b"k", PrivacyConfig(names_file=tmp_path / "absent.txt"))


def test_five_thousand_short_messages_a_second(anonymiser):
    plain = "hi, my order #48213-77 for the router never arrived, tracking says ORD-123456 since monday"
    personal = "hello I am Anna, mail me at anna.b{}@gmx.de, order #48213-77 is late"
    texts = [plain if i % 3 else personal.format(i) for i in range(6_000)]
    best = float("inf")
    for attempt in range(3):  # the best of three: other work on the machine is not what is measured
        began = time.process_time()
        for i, text in enumerate(texts):
            anonymiser.text(text, f"{attempt}-{i % 50}")
        best = min(best, time.process_time() - began)
    assert len(texts) / best > 5_000
