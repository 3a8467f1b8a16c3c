"""The plain form of a text, in which personal data is looked for.

Pasted text carries zero-width characters and soft hyphens, which are left out, and digits of other scripts and
full-width letters, which become ASCII. All else stays, so each character of the plain form stands for one of the text.
"""

from __future__ import annotations

import re
import string
import unicodedata
from typing import Final

# Soft hyphen; zero-width spaces, joiners and direction marks; direction overrides and isolates; byte-order mark.
_HIDDEN: Final = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
_WIDE: Final = {chr(ord(char) + 0xFEE0): char for char in string.ascii_letters + "@.+-()"}
_FOLDED: Final = re.compile(rf"[^\D0-9]|[{''.join(_WIDE)}]")


def plain(text: str) -> str:
    """``text`` in ASCII digits, without what cannot be seen."""
    return without_hidden(folded(text))


def folded(text: str) -> str:
    """``text`` with every decimal digit and every full-width letter in ASCII; of equal length."""
    return text if text.isascii() else _FOLDED.sub(_ascii, text)


def without_hidden(text: str) -> str:
    """``text`` without zero-width characters and soft hyphens."""
    return text if text.isascii() else _HIDDEN.sub("", text)


def seen_places(text: str) -> list[int]:
    """For every character of ``without_hidden(text)`` its place in ``text``."""
    return [place for place, char in enumerate(text) if not _HIDDEN.match(char)]


def _ascii(match: re.Match[str]) -> str:
    char = match[0]
    return _WIDE.get(char) or str(unicodedata.decimal(char))
