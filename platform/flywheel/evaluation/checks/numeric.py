"""The answer's number is the expected one.

The last number of the answer counts, where reasoning ends; or a JSON field of it, where ``fields`` names one.
Thousands are separated by a comma, an apostrophe or a fixed space. A percent sign on one side only is read both
ways: 12.5, 12.5 % and 0.125 answer "12.5%". What may be off is ``tolerance``, in the unit of the expected number,
or is written as people write it: ``"40 ± 2"``, ``"40 ± 5%"`` (of the expected value).
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, Final, NamedTuple

import regex

from flywheel.errors import UsageError
from flywheel.evaluation.checks.base import CheckResult, Rule, at_path, text_of, verdict
from flywheel.records import Check

_DIGITS: Final = r"(?:\d{1,3}(?:[,'\u2019\u00a0\u202f]\d{3})++(?!\d)|\d++)(?:\.\d++)?+|\.\d++"
_NUMBER: Final = regex.compile(
    rf"(?<![\w.])(?P<sign>[-+\u2212])?[$€£]?(?<value>(?:{_DIGITS})(?:[eE][-+]?\d{{1,3}}(?!\d))?+)"
    r"(?P<percent>\s?(?:%|percent\b|per cent\b))?"
)
_ALLOWED: Final = regex.compile(r"(?P<number>.+?)\s*(?:(?:±|\+/-)\s*(?P<off>[\d.]+)\s*(?P<share>%)?)?")


class _Number(NamedTuple):
    value: Decimal
    percent: bool


class _Expected(NamedTuple):
    number: _Number
    off: Decimal


def _validate(check: Check) -> None:
    if check.fields is not None and len(check.fields) != 1:
        raise UsageError("a check of kind 'numeric' reads one field of a JSON answer, or none")
    _expected(check)


def _mark(check: Check, answer: str) -> CheckResult:
    wanted = _expected(check)
    got = _in_field(answer, check.fields[0]) if check.fields else _last(answer)
    if got is None:
        return verdict(False, "no number in the answer" if not check.fields else f"no number in '{check.fields[0]}'")
    right = any(abs(value - wanted.number.value) <= wanted.off for value in _readings(got, wanted.number))
    return verdict(right, f"{got.value}{'%' if got.percent else ''} is not the expected number")


def _readings(got: _Number, wanted: _Number) -> list[Decimal]:
    """What the answer's number may mean in the unit of the expected one."""
    if got.percent == wanted.percent:
        return [got.value]
    return [got.value, got.value * 100 if wanted.percent else got.value / 100]


def _expected(check: Check) -> _Expected:
    parts = _ALLOWED.fullmatch(text_of(check).strip())
    number = _whole(parts["number"]) if parts else None
    if parts is None or number is None:
        raise UsageError(
            f"a check of kind 'numeric' expects a number such as '1,250' or '40 ± 5%', got {check.expected!r:.60}"
        )
    if check.tolerance is not None and (parts["off"] or not check.tolerance >= 0):
        raise UsageError("a check of kind 'numeric' has one tolerance, not negative: the field, or '±' in the number")
    if not parts["off"]:
        return _Expected(number, Decimal(str(check.tolerance or 0)))
    off = _whole(parts["off"])
    if off is None:
        raise UsageError(f"a check of kind 'numeric' has a tolerance that is no number: {parts['off']!r}")
    return _Expected(number, abs(number.value) * off.value / 100 if parts["share"] else off.value)


def _in_field(answer: str, name: str) -> _Number | None:
    try:
        value: Any = at_path(json.loads(answer), name)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    return _whole(str(value))


def _last(text: str) -> _Number | None:
    found = list(_NUMBER.finditer(text))
    return _read(found[-1]) if found else None


def _whole(text: str) -> _Number | None:
    found = _NUMBER.fullmatch(text.strip())
    return _read(found) if found else None


def _read(found: regex.Match[str]) -> _Number:
    digits = regex.sub(r"[^\d.eE+-]", "", found["value"])
    value = Decimal(digits)
    return _Number(-value if found["sign"] in {"-", "\u2212"} else value, bool(found["percent"]))


RULE = Rule(_validate, _mark)
