import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.text.personal_data import KINDS, detect

V6 = "3b20:9a3a:1b2f:7ce:9ef1:4787:85fc:1"
NAMES = frozenset({"Anna", "Maria Lopez", "O'Brien", "José", "Jean-Luc"})


ARABIC = {ord("0") + digit: 0x0660 + digit for digit in range(10)}


def wide(text):
    return "".join(chr(ord(char) + 0xFEE0) for char in text)


def found(text, **options):
    return [(span.kind, span.value) for span in detect(text, names=NAMES, **options)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to anna.b+x@mail.gmx.de.", [("email", "anna.b+x@mail.gmx.de")]),
        ("'x@y.co' and <ä.b@straße.de>", [("email", "x@y.co"), ("email", "ä.b@straße.de")]),
        ("from\\njoe@corp.io", [("email", "joe@corp.io")]),
        ("a@b.co,c@d.co", [("email", "a@b.co"), ("email", "c@d.co")]),
        ("pay 4111 1111 1111 1111 now", [("card", "4111 1111 1111 1111")]),
        ("3782-822463-10005 or 5555555555554444", [("card", "3782-822463-10005"), ("card", "5555555555554444")]),
        ("card 4111111111111111 123 12/27", [("card", "4111111111111111")]),
        ("4111111111111111 5555555555554444", [("card", "4111111111111111"), ("card", "5555555555554444")]),
        ("DE89 3704 0044 0532 0130 00 please", [("iban", "DE89 3704 0044 0532 0130 00")]),
        ("gb82west12345698765432", [("iban", "gb82west12345698765432")]),
        ("FR1420041010050500013M02606.", [("iban", "FR1420041010050500013M02606")]),
        ("10.1.2.3:80, from 86.231.85.193.", [("ip", "10.1.2.3"), ("ip", "86.231.85.193")]),
        ("host fe80::1ff:fe23:4567:890a:", [("ip", "fe80::1ff:fe23:4567:890a")]),
        ("2a00:1450:: and 3b20:9a3a:1b2f:7ce:9ef1:4787:85fc:1", [("ip", "2a00:1450::"), ("ip", V6)]),
        ("10.1.2.3 2a00:1450::1 10.1.2.4", [("ip", "10.1.2.3"), ("ip", "2a00:1450::1"), ("ip", "10.1.2.4")]),
        ("2a00:1450::1 +49 30 1234567", [("ip", "2a00:1450::1"), ("phone", "+49 30 1234567")]),
        ("::ffff:10.1.2.3", [("ip", "::ffff:10.1.2.3")]),
        ("call (978) 645-9740 or 978.645.9741x12", [("phone", "(978) 645-9740"), ("phone", "978.645.9741x12")]),
        ("978-645-9740 978-645-9741", [("phone", "978-645-9740"), ("phone", "978-645-9741")]),
        ("+49 30 1234567, 030 1234567 2 times", [("phone", "+49 30 1234567"), ("phone", "030 1234567")]),
        ("+44 (0)20 7946 0018", [("phone", "+44 (0)20 7946 0018")]),
        ("030 23125 123 030 23125 124", [("phone", "030 23125 123"), ("phone", "030 23125 124")]),
        ("my cell is 785 8949", [("phone", "785 8949")]),
        ("number\\n978-645-9740", [("phone", "978-645-9740")]),
        ("4111111111111111 978-645-9740", [("card", "4111111111111111"), ("phone", "978-645-9740")]),
        ("ANNA's order, anna!", [("name", "ANNA"), ("name", "anna")]),
        ("Maria Lopez and maria-lopez but not Maria", [("name", "Maria Lopez"), ("name", "maria-lopez")]),
        ("O\u2019Brien, JOSE\u0301", [("name", "O\u2019Brien"), ("name", "JOSE\u0301")]),
        ("Jean Luc", [("name", "Jean Luc")]),
        ("hi\\nAnna", [("name", "Anna")]),
        ("anna@gmx.de", [("email", "anna@gmx.de")]),
    ],
)  # fmt: skip
def test_found(text, expected):
    assert found(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "4111   1111   1111   1111",
        "2023-11-05".translate(ARABIC),
        "order #48213-77 has not arrived",
        "ORD-123456 and ORD-2023-11-123456",
        "order 4821377, ticket 2813882583, ref 0301234567",
        "I called about order 48213-77",
        "#2813882583 and A-2813882583",
        "on 2023-11-05 14:56:41 and 01.02.2023 10:30 and 11/15/1979",
        "12:30:45 or std::vector or ::1 or 127.0.0.1 or a::b",
        "version 1.2.3.4.5 or v1.2.3.4",
        "4111 1111 1111 1112 has a wrong check digit",
        "0000 0000 0000 0000",
        "DE88370400440532013000 has wrong check digits",
        "308-63-0237",
        "$1 234 567.89 or 1,234,567,890",
        "Joanna, Annabel and Mari Lopez",
        "1234567890123456789012345678901234567890",
        "@handle and a@b and a@.com and user@localhost",
        "SKU 978-3-16-148410-0",
    ],
)
def test_left_alone(text):
    assert found(text) == []


@pytest.mark.parametrize(
    ("before", "value", "after", "kind"),
    [
        ("write to ", "anna\u200b@gmail.com", "!", "email"),
        ("", "jo\u200bhn@x.org", "", "email"),
        ("\u202a", "john@x.org", "\u202c", "email"),
        ("", "anna\uff20gmail.com", "", "email"),
        ("", wide("anna@gmail.com"), "\u3002", "email"),
        ("é ", "4111\u200b1111\u200b1111\u200b1111", " now", "card"),
        ("", "4111\u00ad1111\u00ad1111\u00ad1111", "", "card"),
        ("", wide("4111111111111111"), "", "card"),
        ("", "4111.1111.1111.1111", ".", "card"),
        ("", "4111  1111  1111  1111", "", "card"),
        ("", "4111 1111\r\n1111 1111", "", "card"),
        ("VISA-", "4111111111111111", "", "card"),
        ("", "DE89  3704  0044  0532  0130  00", "", "iban"),
        ("", "DE89 3704 0044\n0532 0130 00", "\nplease", "iban"),
        ("", "DE89.3704.0044.0532.0130.00", ".", "iban"),
        ("", wide("030-1234567"), "", "phone"),
        ("call ", "+49 30 1234567".translate(ARABIC), "", "phone"),
        ("", "Ma\u200bria Lo\u00adpez", "", "name"),
    ],
)
def test_found_however_it_is_written(before, value, after, kind):
    assert found(before + value + after) == [(kind, value)]


@pytest.mark.parametrize(("value", "kind"), [("978-645-9740", "phone"), ("Anna", "name")])
def test_what_cannot_be_seen_may_part_words(value, kind):
    assert found(f"\u0e42\u0e17\u0e23:\u200b{value}\u200b\u0e14\u0e48\u0e27\u0e19") == [(kind, value)]


def test_a_listed_name_may_hold_a_joiner():
    for text in ("Jan\u200cKarl", "JanKarl"):
        assert [span.value for span in detect(text, names=frozenset({"Jan\u200cKarl"}))] == [text]


def test_a_column_of_numbers_is_no_card():
    assert found("4111\n1111\n1111\n1111") == []


def test_only_the_named_detectors_run():
    text = "anna@gmx.de 978-645-9740 Anna"
    assert found(text, detectors=["phone"]) == [("phone", "978-645-9740")]
    assert found(text, detectors=[]) == []


def test_national_numbers_need_their_region():
    assert found("reached on 01212345678", phone_regions=["GB"])
    assert not found("reached on 01212345678", phone_regions=["US"])


PIECES = ["10.1.2.3", "2a00:1450::1", "+49 30 1234567", "978-645-9740", "a@b.co", "Anna", "4111111111111111", "12"]


@given(
    st.one_of(
        st.text(alphabet="ab1234567890+-. ()@:#/\\nAnnaDE", max_size=120),
        st.text(alphabet="ab1234567890+-. @:\n\u0664\u0665\uff11\uff14\uff20\u200b\u00adAnnaDE", max_size=120),
        st.lists(st.sampled_from(PIECES)).map(" ".join),
        st.lists(st.sampled_from(PIECES)).map("\u200b".join),
    )
)
def test_spans_are_ordered_apart_and_true(text):
    spans = detect(text, names=NAMES)
    assert all(text[span.start : span.end] == span.value and span.value for span in spans)
    assert all(left.end <= right.start for left, right in pairwise(spans))
    assert {span.kind for span in spans} <= set(KINDS)


def test_no_span_repeats_its_value_in_a_log():
    assert "gmx" not in repr(detect("anna@gmx.de"))


@pytest.mark.parametrize(
    "unit",
    [
        "a.", "1 ", "1-", "a@", "1.2.3.", "ab:", "DE89", "(1", "+1 2", "x@a.", "0 123 ", "978-645-9740 ", "Anna ",
        "1\u200b", "\uff14\n\n", "DE89  ", "a\u00ad@", "4111.",
    ],
)  # fmt: skip
def test_hostile_text_takes_linear_time(unit):
    text = unit * (60_000 // len(unit)) + "@"
    began = time.process_time()
    detect(text, names=NAMES)
    assert time.process_time() - began < 10
