"""Signals of the text itself, on answers as models give them."""

import pytest

from flywheel.config import PrivacyConfig
from flywheel.quality.signals import SIGNALS
from flywheel.quality.signals.context import Context, Measured
from flywheel.text.surrogates import surrogate

GOOD = "Your parcel left our warehouse on Monday and should arrive on Thursday. You can follow it under Orders."


@pytest.fixture
def value(candidate):
    def make(signal, target, text="Where is the parcel that I ordered last week?", context=None):
        return SIGNALS[signal](Measured(candidate("a", text, target)), context or Context())

    return make


def test_language_of_answer_and_question(value):
    assert value("language", GOOD) == 1
    assert value("language", "Ihr Paket hat unser Lager am Montag verlassen und kommt am Donnerstag an.") == 0
    assert value("language", "Thursday") is None  # too short to tell
    assert value("language", '{"intent": "delivery", "product": "router"}') is None


def test_personal_data_that_is_no_surrogate(value):
    mail = surrogate("email", "ada@corp.io", key=b"k", conversation="c")
    assert value("personal_data", GOOD) == 0
    assert value("personal_data", f"We wrote to {mail}.") == 0
    assert value("personal_data", "We wrote to ada.lovelace@corp.io and called +49 30 901820.") == 2
    asked = "my card 4012 8888 8888 1881 was charged"
    assert value("personal_data", "Sorry to hear that.", text=asked) == 1


def test_personal_data_by_listed_names_and_chosen_detectors(value):
    known = Context(names=frozenset({"Ada Lovelace"}))
    assert value("personal_data", "Dear Ada Lovelace, it was sent.", context=known) == 1
    none = Context(privacy=PrivacyConfig(detectors=["ip"]))
    assert value("personal_data", "We wrote to ada.lovelace@corp.io.", context=none) == 0


def test_length_is_of_what_is_said(value):
    assert value("length", "  yes\n") == 3


def test_repetition_finds_loops_and_repeated_lines(value):
    assert value("repetition", GOOD) == 0
    loop = "I am sorry for the delay. " * 12
    assert value("repetition", loop) > 0.9
    lines = "\n".join(["Step: check the cable"] * 3 + ["Then call us at once", "Or write to us"])
    assert 0.3 < value("repetition", lines) < 1
    assert value("repetition", "Yes, you can.") is None
    half = f"{GOOD} {GOOD}"
    assert value("repetition", half) == 1
