"""Text of strangers (users, models), fit to be shown: nothing in it can move, hide, colour or reorder what is around.

Escaping for HTML or for a terminal's markup is not done here: that is the business of what draws.
"""

from __future__ import annotations

import re
from typing import Final

# C0 without newline and tab, DEL, C1; marks that override or isolate direction, line and paragraph separators that
# are no newlines, invisible fillers and byte-order marks; halves of surrogate pairs, which no encoding takes.
# Joiners (U+200C, U+200D) stay: scripts and emoji need them.
_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)


def visible(text: str, *, limit: int | None = None) -> str:
    """``text`` with every control made visible, and the end of a long one replaced by its length.

    Args:
        text: anything, lone surrogates included; the result can always be encoded.
        limit: characters that are kept; none: all.
    """
    cut = text if limit is None else text[:limit]
    shown = _UNSAFE.sub(_named, cut.replace("\r\n", "\n"))
    more = len(text) - len(cut)
    return f"{shown}\u2026 (and {more:,} characters)" if more else shown


def one_line(text: str, *, limit: int | None = None) -> str:
    """``visible`` for a cell or a title: line breaks and tabs become spaces."""
    return " ".join(visible(text, limit=limit).split())


def _named(match: re.Match[str]) -> str:
    return f"[U+{ord(match[0]):04X}]"
