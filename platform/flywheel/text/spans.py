"""Where personal data was found in a text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

Kind = Literal["email", "iban", "card", "ip", "phone", "name"]
"""What is detected, in order of precedence: where two kinds overlap, the earlier one wins."""

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

AFTER_ESCAPE: Final = r"(?<=\\[nrt])"
"""A word may begin right after the ``n`` of an escaped line break: model answers are often JSON text."""


@dataclass(frozen=True, slots=True)
class Span:
    """``text[start:end] == value``; ``value`` stays out of ``repr`` so that no log repeats it."""

    kind: Kind
    start: int
    end: int
    value: str = field(repr=False)


def blank(text: str, spans: Iterable[Span]) -> str:
    """``text`` with the spans hidden: equal length, and nothing in them can be found again.

    Args:
        text: the text the spans were found in.
        spans: in reading order, not overlapping.
    """
    parts, end = list[str](), 0
    for span in spans:
        parts += [text[end : span.start], "\0" * (span.end - span.start)]
        end = span.end
    return "".join([*parts, text[end:]])


def escaped(text: str, start: int) -> bool:
    """Whether the letter at ``start`` belongs to an escape such as the ``n`` of a written-out line break."""
    return start > 0 and text[start - 1] == "\\" and text[start : start + 1] in {"n", "r", "t"}
