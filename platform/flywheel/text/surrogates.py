"""Replaces personal data by surrogates: same type, same look, nobody's.

A surrogate is decided by a secret key, the conversation and the value, so one value has one surrogate
within a conversation and another in the next. All are drawn from ranges that belong to nobody, which is
how ``is_surrogate`` tells them from real data without the key:

==========  ==========================================================================================
email       example.com, example.org, example.net (RFC 2606)
phone       last seven digits 555-01xx (reserved for fiction in North America; elsewhere one real number
            in 100,000 looks so), country code, trunk zero and formatting as in the original
ip          192.0.2.0/24, 198.51.100.0/24, 203.0.113.0/24 (RFC 5737), 2001:db8::/32 (RFC 3849)
card        test ranges 4242 42, with 15 digits 3782 82, with 14 digits 3056 93; valid Luhn digit
iban        bank code of zeros (letters: X) in the original's country; valid check digits
name        ``SURROGATE_NAMES``
==========  ==========================================================================================
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Callable, Iterable

from phonenumbers import COUNTRY_CODE_TO_REGION_CODE
from stdnum import luhn
from stdnum.iso7064 import mod_97_10

from flywheel.text.accounts import bban_layout, compact_iban
from flywheel.text.names import WORD, fold
from flywheel.text.phones import EXTENSION, digits_of
from flywheel.text.plain import plain
from flywheel.text.spans import Kind, Span
from flywheel.text.surrogate_names import SURROGATE_NAMES

EMAIL_DOMAINS = ("example.com", "example.org", "example.net")
IPV4_NETWORKS = tuple(ipaddress.IPv4Network(n) for n in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"))
IPV6_NETWORK = ipaddress.IPv6Network("2001:db8::/32")
CARD_PREFIX = "424242"
CARD_PREFIX_BY_LENGTH = {14: "305693", 15: "378282"}

_FICTION = "55501"
_RESERVED_BANK = {"n": "0", "a": "X", "c": "0"}
_KNOWN_NAMES = frozenset(fold(name) for name in SURROGATE_NAMES)
_Draw = Callable[[str], int]


def surrogate(kind: Kind, value: str, *, key: bytes, conversation: str) -> str:
    """The stand-in for one value; equal inputs give equal output, in every process.

    Args:
        kind: what ``value`` is.
        value: as written in the text; its formatting is kept where the kind has any, hidden characters are not.
        key: secret; without it the mapping cannot be confirmed by guessing values.
        conversation: scope within which a value keeps its surrogate.
    """

    def draw(canonical: str) -> int:
        message = "\x1f".join((conversation, kind, canonical)).encode("utf-8", "surrogatepass")
        return int.from_bytes(hmac.digest(key, message, hashlib.sha256), "big")

    return _MAKERS[kind](plain(value), draw)


def is_surrogate(kind: Kind, value: str) -> bool:
    """Whether a value lies in the reserved range of its kind."""
    return _TESTS[kind](plain(value))


def replace(text: str, spans: Iterable[Span], *, key: bytes, conversation: str) -> str:
    """``text`` with every span's value replaced; spans that hold surrogates, and all other text, stay as they are.

    Args:
        text: the text the spans were found in.
        spans: in reading order, not overlapping.
        key: secret of the surrogates.
        conversation: scope of consistency.
    """
    parts: list[str] = []
    end = 0
    for span in spans:
        if not is_surrogate(span.kind, span.value):
            parts += [text[end : span.start], surrogate(span.kind, span.value, key=key, conversation=conversation)]
            end = span.end
    return "".join([*parts, text[end:]])


def _email(value: str, draw: _Draw) -> str:
    number, name = divmod(draw(value.casefold()), len(SURROGATE_NAMES))
    number, domain = divmod(number, len(EMAIL_DOMAINS))
    made = f"{SURROGATE_NAMES[name].lower()}{number % 1_000_000:06d}@{EMAIL_DOMAINS[domain]}"
    return made.upper() if value.isupper() else made


def _is_email(value: str) -> bool:
    return value.casefold().rpartition("@")[2] in EMAIL_DOMAINS


def _phone(value: str, draw: _Draw) -> str:
    digits = digits_of(value)
    # From the right, so that 030 1234567 and +49 30 1234567 get the same subscriber number.
    number, last = divmod(draw(digits[-8:]), 100)
    kept = _kept_prefix(value, digits)
    middle = len(digits) - kept - 7
    drawn = f"{number % 10**16:016d}"[16 - middle :] if middle > 0 else ""
    if drawn and digits[kept] != "0":
        drawn = str(2 + int(drawn[0]) % 8) + drawn[1:]  # no area code begins with 0 or 1
    made = (digits[: len(digits) - 7 - len(drawn)] + drawn + f"{_FICTION}{last:02d}")[-len(digits) :]
    extension = EXTENSION.search(value)
    tail = extension.group() if extension else ""
    return _fill_digits(value.removesuffix(tail), made) + _fill_digits(tail, f"{number % 10**6:06d}")


def _kept_prefix(value: str, digits: str) -> int:
    """How many leading digits say the country or the trunk rather than the person."""
    zeros = len(digits) - len(digits.lstrip("0"))
    international = value.lstrip("(").startswith("+") or zeros >= 2
    if not international:
        return zeros or int(len(digits) == 11 and digits.startswith("1"))
    trunk = int("(0)" in value)  # "+44 (0)20 …"
    for length in (1, 2, 3):
        if int(digits[zeros : zeros + length] or "0") in COUNTRY_CODE_TO_REGION_CODE:
            return zeros + length + trunk
    return zeros


def _is_phone(value: str) -> bool:
    return digits_of(value)[-7:-2] == _FICTION


def _card(value: str, draw: _Draw) -> str:
    digits = "".join(c for c in value if c.isdigit())
    prefix = CARD_PREFIX_BY_LENGTH.get(len(digits), CARD_PREFIX)
    free = len(digits) - len(prefix) - 1
    body = f"{prefix}{draw(digits) % 10**free:0{free}d}"
    return _fill_digits(value, body + luhn.calc_check_digit(body))


def _is_card(value: str) -> bool:
    digits = "".join(c for c in value if c.isdigit())
    return digits.startswith(CARD_PREFIX_BY_LENGTH.get(len(digits), CARD_PREFIX)) and luhn.is_valid(digits)


def _iban(value: str, draw: _Draw) -> str:
    compact = compact_iban(value)
    number, parts = draw(compact), list[str]()
    for place, (length, kind) in enumerate(bban_layout(compact[:2])):
        part = _RESERVED_BANK[kind] * length
        if place > 0:
            letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if kind == "a" else "0123456789"
            part = ""
            for _ in range(length):
                number, letter = divmod(number, len(letters))
                part += letters[letter]
        parts.append(part)
    bban = "".join(parts)
    check = mod_97_10.calc_check_digits(bban + compact[:2])
    return _fill(value, compact[:2] + check + bban)


def _is_iban(value: str) -> bool:
    compact = compact_iban(value)
    layout = bban_layout(compact[:2])
    return bool(layout) and compact[4 : 4 + layout[0][0]] == _RESERVED_BANK[layout[0][1]] * layout[0][0]


def _ip(value: str, draw: _Draw) -> str:
    address = ipaddress.ip_address(value)
    number = draw(address.compressed)
    if isinstance(address, ipaddress.IPv6Address):
        return ipaddress.IPv6Address(int(IPV6_NETWORK.network_address) | number % 2**96).compressed
    network = IPV4_NETWORKS[number % len(IPV4_NETWORKS)]
    return str(network.network_address + 1 + number // 3 % 254)


def _is_ip(value: str) -> bool:
    address = ipaddress.ip_address(value)
    if isinstance(address, ipaddress.IPv6Address):
        return address in IPV6_NETWORK
    return any(address in network for network in IPV4_NETWORKS)


def _name(value: str, draw: _Draw) -> str:
    def one(word: str) -> str:
        made = SURROGATE_NAMES[draw(fold(word)) % len(SURROGATE_NAMES)]
        if word.isupper() and len(word) > 1:
            return made.upper()
        return made.lower() if word.islower() else made

    return WORD.sub(lambda match: one(match.group()), value)


def _is_name(value: str) -> bool:
    return all(fold(match.group()) in _KNOWN_NAMES for match in WORD.finditer(value))


def _fill(shape: str, made: str) -> str:
    """Write ``made`` over the letters and digits of ``shape``; separators and a small-letter style stay."""
    source = iter(made.lower() if shape.islower() else made)
    return "".join(next(source) if c.isalnum() else c for c in shape)


def _fill_digits(shape: str, digits: str) -> str:
    source = iter(digits)
    return "".join(next(source) if c.isdigit() else c for c in shape)


_MAKERS: dict[Kind, Callable[[str, _Draw], str]] = {
    "email": _email, "phone": _phone, "card": _card, "iban": _iban, "ip": _ip, "name": _name,
}  # fmt: skip
_TESTS: dict[Kind, Callable[[str], bool]] = {
    "email": _is_email, "phone": _is_phone, "card": _is_card, "iban": _is_iban, "ip": _is_ip, "name": _is_name,
}  # fmt: skip
