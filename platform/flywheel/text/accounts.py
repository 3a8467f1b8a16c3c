"""Finds payment cards and bank accounts; both carry checksums, which keep order numbers out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from stdnum import iban, luhn, numdb

from flywheel.text.spans import AFTER_ESCAPE, Span

# Between groups: a dot, a hyphen or dash, or one or two spaces or line ends, as pasted from a PDF.
_GAP = r"(?:\s{1,2}|[.\-\u2010-\u2015])"
_BEFORE = rf"(?:(?<![^\W_])|{AFTER_ESCAPE})"
_DIGIT_RUN = re.compile(rf"{_BEFORE}[0-9]+(?:{_GAP}[0-9]+)*(?![^\W_])")
_ENOUGH_DIGITS = re.compile(rf"[0-9](?:{_GAP}?[0-9]){{11}}")
_GROUP = re.compile(r"[0-9]+")
# Issuer ranges with their lengths (ISO/IEC 7812): without them one 16-digit number in ten is a "card".
_ISSUER = re.compile(
    r"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})"  # Visa
    r"|(?:5[1-5][0-9]{4}|222[1-9][0-9]{2}|22[3-9][0-9]{3}|2[3-6][0-9]{4}|27[01][0-9]{3}|2720[0-9]{2})[0-9]{10}"  # MC
    r"|3[47][0-9]{13}"  # American Express
    r"|3(?:0[0-59]|[689][0-9])[0-9]{11,16}"  # Diners Club
    r"|(?:6011|64[4-9][0-9]|65[0-9]{2})[0-9]{12,15}"  # Discover
    r"|(?:2131|1800|35[2-8][0-9])[0-9]{11,12}"  # JCB
    r"|62[0-9]{14,17}"  # UnionPay
    r"|(?:50|5[6-9]|6[0-9])[0-9]{10,17}"  # Maestro and kin
    r"|424242[0-9]{6,13}"  # the test range that surrogates use, at any length
)
_IBAN_HEAD = re.compile(rf"{_BEFORE}([A-Za-z]{{2}})[0-9]{{2}}(?={_GAP}?[A-Za-z0-9])")
_BBAN_PART = re.compile(r"([0-9]+)!([nac])")


def cards(text: str) -> Iterator[Span]:
    """Numbers of 12 to 19 digits of a known issuer, with a valid Luhn digit, grouped as people write them."""
    if not _ENOUGH_DIGITS.search(text):
        return
    for run in _DIGIT_RUN.finditer(text):
        groups = [(g.start(), g.end()) for g in _GROUP.finditer(text, run.start(), run.end())]
        first = 0
        while first < len(groups):
            last = _card_end(text, groups, first)
            if last is None:
                first += 1
                continue
            start, end = groups[first][0], groups[last][1]
            yield Span("card", start, end, text[start:end])
            first = last + 1


def _card_end(text: str, groups: list[tuple[int, int]], first: int) -> int | None:
    """Index of the last group of the longest card that begins with group ``first``."""
    digits, sizes, found = "", list[int](), None
    for last in range(first, min(len(groups), first + 5)):
        start, end = groups[last]
        digits += text[start:end]
        sizes.append(end - start)
        in_a_column = text.count("\n", groups[first][0], end) > 1  # numbers one a line are a list, not a card
        if _is_card_grouping(sizes) and not in_a_column and is_card(digits):
            found = last
    return found


def _is_card_grouping(sizes: list[int]) -> bool:
    """Whether people write cards like this: in one piece, in fours, or as 4-6-5 and 4-6-4."""
    fours = all(size == 4 for size in sizes[:-1]) and sizes[-1] <= 4
    return len(sizes) == 1 or fours or sizes in ([4, 6, 5], [4, 6, 4])


def is_card(digits: str) -> bool:
    """Whether a string of digits is a card number of a known issuer with a valid check digit."""
    return bool(_ISSUER.fullmatch(digits)) and len(set(digits)) > 1 and luhn.is_valid(digits)


def ibans(text: str) -> Iterator[Span]:
    """IBANs of a registered country, of its length, with valid check digits (ISO 13616, mod 97)."""
    floor = 0
    for head in _IBAN_HEAD.finditer(text):
        layout = bban_layout(head.group(1).upper())
        if layout and head.start() >= floor:
            whole = _grouped(4 + sum(length for length, _ in layout)).match(text, head.start())
            if whole and iban.is_valid(compact_iban(whole[0]), check_country=False):
                yield Span("iban", whole.start(), whole.end(), whole[0])
                floor = whole.end()


def compact_iban(value: str) -> str:
    """An IBAN without separators, in capitals."""
    return "".join(c for c in value if c.isalnum()).upper()


@lru_cache(maxsize=512)
def bban_layout(country: str) -> tuple[tuple[int, str], ...]:
    """Parts of a country's account numbers as ``(length, n | a | c)``; empty for a country without IBANs."""
    properties = numdb.get("iban").info(country)[0][1]
    parts = _BBAN_PART.findall(properties.get("bban", ""))
    return tuple((int(length), kind) for length, kind in parts)


@lru_cache(maxsize=64)
def _grouped(length: int) -> re.Pattern[str]:
    """A word of ``length`` letters and digits, in groups or in one piece."""
    return re.compile(rf"[A-Za-z0-9](?:{_GAP}?[A-Za-z0-9]){{{length - 1}}}(?![A-Za-z0-9])")
