"""Finds e-mail and IP addresses."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from flywheel.text.spans import AFTER_ESCAPE, Span, blank, escaped

_DOMAIN = re.compile(r"(?:[\w-]+\.)+[^\W\d_]{2,}")
_LOCAL_EXTRA = frozenset("._%+-'&=~")
_LOCAL_EDGE = ".'-%&=~"
_IPV4 = re.compile(rf"(?:(?<![\w.])|{AFTER_ESCAPE})[0-9]{{1,3}}(?:\.[0-9]{{1,3}}){{3}}(?!\w|\.[0-9])")
_IPV6 = re.compile(rf"(?:(?<![\w:])|{AFTER_ESCAPE})[0-9A-Fa-f:][0-9A-Fa-f:.]+")


def emails(text: str) -> Iterator[Span]:
    """Addresses of the form ``local@domain.tld``; linear in the text, whatever it holds."""
    floor, at = 0, text.find("@")
    while at >= 0:
        match = _DOMAIN.match(text, at + 1)
        start = _local_start(text, floor, at) if match else at
        if match and start < at:
            yield Span("email", start, match.end(), text[start : match.end()])
            floor = match.end()
        else:
            floor = at + 1
        at = text.find("@", floor)


def _local_start(text: str, floor: int, at: int) -> int:
    """Where the part before ``@`` begins; equals ``at`` when there is none."""
    start = at
    while start > floor and (text[start - 1].isalnum() or text[start - 1] in _LOCAL_EXTRA):
        start -= 1
    while start < at and text[start] in _LOCAL_EDGE:
        start += 1
    return start + 1 if escaped(text, start) else start


def ips(text: str) -> list[Span]:
    """IPv4 and IPv6 addresses that can name a machine: not loopback (``::1``), not unspecified (``::``)."""
    found: list[Span] = []
    if text.count(":") >= 2:
        for match in _IPV6.finditer(text):
            value = _ipv6(text, match)
            if value:
                found.append(Span("ip", match.start(), match.start() + len(value), value))
        text = blank(text, found)  # ``::ffff:10.1.2.3`` holds an IPv4 address that is part of it
    if text.count(".") >= 3:
        hosts = (match for match in _IPV4.finditer(text) if _is_host(match.group()))
        found += [Span("ip", match.start(), match.end(), match.group()) for match in hosts]
    return sorted(found, key=lambda span: span.start)


def _ipv6(text: str, match: re.Match[str]) -> str | None:
    run = match.group()
    if run.count(":") < 2 or text[match.end() : match.end() + 1].isalnum():
        return None
    trimmed = run.rstrip(".:")
    for value in (run, trimmed, trimmed + "::"):
        if run.startswith(value) and any(c.isdigit() for c in value) and _is_host(value):
            return value
    return None


def _is_host(value: str) -> bool:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)
