"""Finds personal data: addresses, accounts, phones and names, without overlaps."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from flywheel.text.accounts import cards, ibans
from flywheel.text.addresses import emails, ips
from flywheel.text.names import names as find_names
from flywheel.text.phones import phones
from flywheel.text.plain import folded, seen_places, without_hidden
from flywheel.text.spans import KINDS, Kind, Span, blank

__all__ = ["KINDS", "Kind", "Span", "detect"]

_BY_FORM: dict[Kind, Callable[[str], Iterable[Span]]] = {"email": emails, "iban": ibans, "card": cards, "ip": ips}


def detect(
    text: str,
    *,
    detectors: Collection[str] = KINDS,
    names: frozenset[str] = frozenset(),
    phone_regions: Sequence[str] = ("US", "GB", "DE"),
) -> list[Span]:
    """All personal data in a text, surrogates included, in reading order and without overlaps.

    Args:
        text: any text; character offsets of the spans refer to it.
        detectors: kinds to look for.
        names: people's names; matched as whole words, case-insensitively.
        phone_regions: ISO 3166 codes of the regions whose national phone numbers count.
    """
    shown = folded(text)
    bare = without_hidden(shown)
    found = _search(bare, detectors, names, phone_regions)
    if len(bare) < len(shown):
        # What cannot be seen hides within a value, or parts two words as a space does: both readings count.
        places = seen_places(shown)
        found = [Span(span.kind, places[span.start], places[span.end - 1] + 1, span.value) for span in found]
        found += _search(blank(shown, found), detectors, names, phone_regions)
    elif shown == text:
        return found
    written = (Span(span.kind, span.start, span.end, text[span.start : span.end]) for span in found)
    return sorted(written, key=lambda span: span.start)


def _search(text: str, detectors: Collection[str], names: frozenset[str], phone_regions: Sequence[str]) -> list[Span]:
    """What the detectors find in a text taken as it is, in reading order and without overlaps."""
    found: list[Span] = []
    for kind in KINDS:
        if kind in detectors:
            spans = list(_run(kind, text, names, phone_regions))
            if spans:
                found += spans
                text = blank(text, spans)  # so that a phone beside a card cannot be swallowed with its digits
    return sorted(found, key=lambda span: span.start)


def _run(kind: Kind, text: str, names: frozenset[str], phone_regions: Sequence[str]) -> Iterable[Span]:
    if kind == "name":
        return find_names(text, names)
    if kind == "phone":
        return phones(text, phone_regions)
    return _BY_FORM[kind](text)
