"""Finds phone numbers, and leaves order numbers, dates and amounts alone.

``phonenumbers`` decides what is a valid number of a region. Its text matcher is not used: it takes
"#48213-77" for a possible number, misses numbers that are written like a phone but not assigned, and
its answer depends on the digits rather than the form, so a surrogate could be cut differently.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

import phonenumbers

from flywheel.text.spans import AFTER_ESCAPE, Span

_GAP = " .\\-/\u00a0\u2010-\u2015\u202f"
EXTENSION = re.compile(r"\s?(?:x|ext\.?|extension)\s?[0-9]{1,6}\Z", re.IGNORECASE)
_CANDIDATE = re.compile(
    rf"(?:(?<![\w+.\-/@$€£])|{AFTER_ESCAPE})\+?\(?\+?[0-9](?:[{_GAP}()]{{0,2}}[0-9]){{6,18}}"
    r"(?:\s?(?:x|ext\.?|extension)\s?[0-9]{1,6})?(?!\w)(?![.,:/\-][0-9])",
    re.IGNORECASE,
)
_SEVEN_DIGITS = re.compile(rf"[0-9](?:[{_GAP}()]{{0,2}}[0-9]){{6}}")
_NANP = re.compile(
    rf"(?:\+?\(?(?:00)?1\)?[{_GAP}]?)?(?:\([0-9]{{3}}\)[{_GAP}]?|[0-9]{{3}}[{_GAP}])[0-9]{{3}}[{_GAP}]?[0-9]{{4}}"
)
_AREA_IN_BRACKETS = re.compile(rf"\([0-9]{{2,5}}\)[{_GAP}]?[0-9]{{3,}}(?:[{_GAP}][0-9]{{2,}})*")
_DATE_OR_SSN = re.compile(
    r"[0-9]{1,2}[./-][0-9]{1,2}[./-](?:19|20)[0-9]{2}(?![0-9])|(?:19|20)[0-9]{2}[./-]?[01][0-9][./-]?[0-3][0-9](?![0-9])"
    r"|[0-9]{3}-[0-9]{2}-[0-9]{4}\Z"
)
_WORD_BREAK = re.compile(r"[ \u00a0\u202f]+")
_CUE = re.compile(
    r"\b(?:(phone|tel(?:e(?:phone|fon))?|mobil[e]?|cell(?:phone)?|handy|call(?:ed|ing)?|fax|whatsapp|dial|sms|text me"
    r"|reach me|ring me)|(?:order|ticket|invoice|ref(?:erence)?|case|account|acct|tracking|serial|sku|id|item|product"
    r"|parcel|shipment|version|code|imei|isbn|bestellung|rechnung))\b",
    re.IGNORECASE,
)
_MAX_WORDS = 7  # nobody writes a number in more pieces
_CUE_WINDOW = 32  # characters before a number in which a word can say what it is


def phones(text: str, regions: Sequence[str]) -> Iterator[Span]:
    """Phone numbers in the text.

    Args:
        text: any text.
        regions: ISO 3166 codes, such as ``US``, whose national forms count.
    """
    if not _SEVEN_DIGITS.search(text):
        return
    place, cues = 0, _Cues(text)
    while match := _CANDIDATE.search(text, place):
        start = match.start()
        breaks = [(m.start(), m.end()) for m in _WORD_BREAK.finditer(text, start, match.end())]
        end = _end(text, start, [*(before for before, _ in breaks[:_MAX_WORDS]), match.end()], cues, tuple(regions))
        if end is not None:
            yield Span("phone", start, end, text[start:end])
            place = end
        else:
            # Next word; through a long series of single digits in larger steps, so that no text is slow.
            place = breaks[5 if len(breaks) > 12 else 0][1] if breaks else match.end()


def digits_of(value: str) -> str:
    """The digits of a number as written, its extension left out."""
    return "".join(c for c in EXTENSION.sub("", value) if c.isdigit())


def _end(text: str, start: int, ends: list[int], cues: _Cues, regions: tuple[str, ...]) -> int | None:
    """Where the number that begins at ``start`` ends: the longest reading, but a North American form is complete."""
    cue = cues.before(start)
    if text[start - 1 : start] == "#" and cue != "phone":
        return None
    for end in ends:
        if _NANP.fullmatch(EXTENSION.sub("", text[start:end])) and _is_phone(text[start:end], cue, regions):
            return end
    return next((end for end in reversed(ends) if _is_phone(text[start:end], cue, regions)), None)


def _is_phone(written: str, cue: str | None, regions: tuple[str, ...]) -> bool:
    value = EXTENSION.sub("", written)
    digits = digits_of(value)
    if not 7 <= len(digits) <= 15 or digits.startswith("000") or value.count("(") != value.count(")"):
        return False
    if _NANP.fullmatch(value):
        return True
    if _DATE_OR_SSN.match(value):
        return False
    return cue == "phone" or _looks_dialled(value, digits) or (cue is None and _is_national(digits, regions))


def _looks_dialled(value: str, digits: str) -> bool:
    """Written in a way that only phone numbers are: ``+49 …``, ``0049…``, ``(030) …``, ``020 7946 0018``."""
    if value.startswith(("+", "(+")):
        return len(digits) >= 8
    if _AREA_IN_BRACKETS.fullmatch(value):
        return len(digits) >= 8
    groups = re.findall(r"[0-9]+", value)
    if any(len(group) < 2 for group in groups[1:]):
        return False
    return digits.startswith("0") and len(groups) >= 3 and 9 <= len(digits) <= (14 if digits.startswith("00") else 12)


class _Cues:
    """The words of one text that tell what a number after them is."""

    def __init__(self, text: str) -> None:
        found = [(match.start(), "phone" if match.group(1) else "id") for match in _CUE.finditer(text)]
        self._starts = [start for start, _ in found]
        self._kinds = [kind for _, kind in found]

    def before(self, place: int) -> str | None:
        """What the nearest word within the window says: ``phone``, ``id`` or None."""
        index = bisect.bisect_left(self._starts, place) - 1
        if index < 0 or self._starts[index] < place - _CUE_WINDOW:
            return None
        return self._kinds[index]


@lru_cache(maxsize=65_536)
def _is_national(digits: str, regions: tuple[str, ...]) -> bool:
    """A valid number of a region, dialled with that region's trunk prefix where it has one (0 in GB and DE)."""
    if not 9 <= len(digits) <= 12:
        return False
    for region in regions:
        trunk = phonenumbers.ndd_prefix_for_region(region, True)
        if trunk and trunk != "1" and not digits.startswith(trunk):
            continue
        try:
            number = phonenumbers.parse(digits, region)
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number_for_region(number, region):
            return True
    return False
