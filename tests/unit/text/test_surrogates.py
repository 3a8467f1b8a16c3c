import ipaddress
import itertools

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from stdnum import iban, luhn

from flywheel.text.accounts import bban_layout
from flywheel.text.personal_data import KINDS, Span, detect
from flywheel.text.surrogate_names import SURROGATE_NAMES
from flywheel.text.surrogates import is_surrogate, replace, surrogate

KEY = b"k" * 32
REAL = {
    "email": ["anna.b@gmx.de", "JOE@CORP.COM"],
    "iban": ["DE89 3704 0044 0532 0130 00", "gb82west12345698765432", "FR1420041010050500013M02606",
        "MT84MALT011000012345MTLCAST001S"],
    "card": ["4111 1111 1111 1111", "3714-496353-98431", "36227206271667", "6304000000000000"],
    "phone": ["(978) 645-9740", "+49 30 1234567", "030 1234567", "1-978-645-9740x11144", "785 8949",
        "0049 30 1234567", "+44 (0)20 7946 0018"],
    "ip": ["86.231.85.193", "4f8a:c99e:dc86:faf9:5988:5f63:375e:8a2a"],
    "name": ["Anna", "MARIA LOPEZ", "o'brien", "José"],
}  # fmt: skip
ALL = [(kind, value) for kind, values in REAL.items() for value in values]


def make(kind, value, conversation="c", key=KEY):
    return surrogate(kind, value, key=key, conversation=conversation)


@pytest.mark.parametrize(("kind", "value"), ALL)
def test_a_surrogate_is_told_from_what_it_replaces(kind, value):
    made = make(kind, value)
    assert not is_surrogate(kind, value)
    assert is_surrogate(kind, made)
    assert made != value


@pytest.mark.parametrize(("kind", "value"), ALL)
def test_one_value_one_surrogate_a_conversation(kind, value):
    assert make(kind, value) == make(kind, value)
    others = {make(kind, value, conversation=str(i)) for i in range(20)}
    assert len(others) > 10
    assert len({make(kind, value, key=bytes([i])) for i in range(20)}) > 10


@pytest.mark.parametrize(("kind", "value"), [item for item in ALL if item[0] in {"iban", "card", "phone"}])
def test_the_formatting_stays(kind, value):
    made = make(kind, value)
    assert [c for c in made if not c.isalnum()] == [c for c in value if not c.isalnum()]
    assert len(made) == len(value)
    assert made.islower() == value.islower()


@pytest.mark.parametrize("value", REAL["iban"])
def test_iban_surrogates_are_valid_and_of_the_same_country(value):
    made = make("iban", value)
    assert made[:2] == value[:2]
    assert iban.is_valid(made, check_country=False)


@pytest.mark.parametrize("country", [a + b for a, b in itertools.product("ABCDEFGHIJKLMNOPQRSTUVWXYZ", repeat=2)])
def test_every_country_with_ibans_has_surrogates(country):
    layout = bban_layout(country)
    if layout:
        made = make("iban", country + "00" + "1" * sum(length for length, _ in layout))
        assert iban.is_valid(made, check_country=False)
        assert is_surrogate("iban", made)
        assert [span.value for span in detect(made, detectors=["iban"])] == [made]


@pytest.mark.parametrize("value", REAL["card"])
def test_card_surrogates_are_valid_test_cards(value):
    digits = "".join(c for c in make("card", value) if c.isdigit())
    assert luhn.is_valid(digits)
    assert digits[:6] in {"424242", "378282", "305693"}


def test_ip_surrogates_are_documentation_addresses():
    networks = [ipaddress.ip_network(net) for net in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")]
    assert any(ipaddress.ip_address(make("ip", "86.231.85.193")) in network for network in networks)
    assert make("ip", "2a00:1450::1").startswith("2001:db8:")


def test_phone_surrogates_are_for_fiction_and_keep_the_country():
    assert make("phone", "(978) 645-9740")[6:12] == "555-01"
    assert make("phone", "+49 30 1234567").startswith("+49 ")
    assert make("phone", "+44 (0)20 7946 0018").startswith("+44 (0)")
    assert make("phone", "030 1234567")[0] == "0"
    assert make("phone", "1-978-645-9740x11144")[:2] == "1-"


def test_two_spellings_have_one_surrogate():
    assert make("phone", "030 1234567").replace(" ", "")[-9:] == make("phone", "+49 30 1234567").replace(" ", "")[-9:]
    assert make("phone", "(978) 645-9740")[1:4] == make("phone", "978-645-9740")[:3]
    assert make("email", "Anna@gmx.de") == make("email", "anna@GMX.de")
    assert make("name", "ANNA").lower() == make("name", "anna")
    assert make("name", "Maria Lopez").split()[0] == make("name", "Maria")
    assert make("ip", "2a00:1450:0::1") == make("ip", "2a00:1450::1")


def test_names_are_not_taken_from_the_value_and_repeat_rarely():
    assert len(set(SURROGATE_NAMES)) == len(SURROGATE_NAMES) >= 150
    made = [make("name", f"name{chr(97 + i)}") for i in range(20)]
    assert len(set(made)) > 15


@given(st.sampled_from(KINDS), st.data())
def test_surrogates_of_any_detected_value_are_surrogates(kind, data):
    value = data.draw(VALUES[kind])
    spans = [span for span in detect(value, names=frozenset({"Anna", "Maria Lopez"})) if span.kind == kind]
    assume(spans)
    for span in spans:
        assert is_surrogate(kind, make(kind, span.value))


def test_text_outside_the_spans_is_untouched():
    text = "Hi, call 978-645-9740 or write to anna@gmx.de: order #48213-77."
    spans = detect(text)
    made = replace(text, spans, key=KEY, conversation="c")
    assert made.startswith("Hi, call ")
    assert made.endswith(": order #48213-77.")
    assert " or write to " in made
    assert "gmx" not in made


def test_surrogates_are_left_alone():
    text = "write to robin@example.com or 555-0123, 192.0.2.7"
    spans = [Span("email", 9, 26, "robin@example.com"), Span("ip", 40, 49, "192.0.2.7")]
    assert replace(text, spans, key=KEY, conversation="c") == text


DIGITS = st.text(alphabet="0123456789", min_size=1, max_size=12)
VALUES = {
    "email": st.emails(),
    "iban": st.sampled_from(REAL["iban"]),
    "card": st.text(alphabet="0123456789", min_size=11, max_size=18).map(
        lambda d: "4" + d + luhn.calc_check_digit("4" + d)
    ),
    "phone": st.builds(
        "{}{}{}{}".format,
        st.sampled_from(["+", "+49 ", "0", "(0", "1-", ""]), DIGITS, st.sampled_from(["", " ", "-", ") "]), DIGITS,
    ),
    "ip": st.ip_addresses().map(str),
    "name": st.sampled_from(["Anna", "maria lopez"]),
}  # fmt: skip
