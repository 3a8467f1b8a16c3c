"""How an answer is marked. Pure: one function a kind, an explicit dict as the registry.

``exact``       equal after white space at both ends is removed
``normalised``  equal after ``text.normalise`` (case, Unicode form, white space, outer punctuation)
``json``        the answer is JSON and agrees with the expected value field by field, or validates against
                it when it is a JSON Schema (it has ``$schema``); the score is the share of right fields
``contains``    every expected text occurs, normalised; the score is the share that does
``regex``       the pattern is found, within a time limit
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import regex
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from jsonschema.validators import validator_for

from flywheel.errors import UsageError
from flywheel.records import Check, CheckKind
from flywheel.text.normalise import normalise

REGEX_SECONDS: Final = 0.25
"""One search may take so long; a pattern that backtracks for ever fails its case instead of stopping a run."""

_MISSING: Final = object()


@dataclass(frozen=True)
class CheckResult:
    """One mark: passed or not, a score in [0, 1] (1 exactly when passed), and why not."""

    passed: bool
    score: float
    detail: str = ""


def run_check(check: Check, answer: str) -> CheckResult:
    """Mark one answer. Never raises for anything in the answer.

    Raises:
        UsageError: the check itself is wrong (see ``validate``).
    """
    return CHECKS[check.kind](check, answer)


def validate(check: Check) -> None:
    """Refuse a check that could never mark an answer.

    Raises:
        UsageError: says what is wrong with it.
    """
    if check.kind == "regex":
        _pattern(_text(check))
    elif check.kind == "json":
        expected = _parsed(check)
        if _is_schema(expected):
            _validator(json.dumps(expected, sort_keys=True))
        elif absent := [name for name in check.fields or () if _at(expected, name) is _MISSING]:
            raise UsageError(f"a check of kind 'json' compares the field '{absent[0]}', which it does not expect")
    elif check.kind == "contains":
        _texts(check)
    else:
        _text(check)


def check_for(expected: str) -> Check:
    """The check that fits an expected answer: JSON objects are compared by field, other text normalised."""
    try:
        value = json.loads(expected)
    except ValueError:
        value = None
    if isinstance(value, dict):
        return Check(kind="json", expected=value)
    return Check(kind="normalised", expected=expected)


def _exact(check: Check, answer: str) -> CheckResult:
    return _mark(answer.strip() == _text(check).strip(), "differs from the expected text")


def _normalised(check: Check, answer: str) -> CheckResult:
    return _mark(normalise(answer) == normalise(_text(check)), "differs from the expected text, normalised")


def _contains(check: Check, answer: str) -> CheckResult:
    wanted, found = _texts(check), normalise(answer)
    absent = [text for text in wanted if normalise(text) not in found]
    score = 1 - len(absent) / len(wanted)
    return CheckResult(not absent, score, f"does not contain {absent[0]!r}" if absent else "")


def _regex(check: Check, answer: str) -> CheckResult:
    try:
        return _mark(_pattern(_text(check)).search(answer, timeout=REGEX_SECONDS) is not None, "pattern not found")
    except TimeoutError:
        return CheckResult(False, 0.0, f"pattern took longer than {REGEX_SECONDS} s on this answer")


def _json(check: Check, answer: str) -> CheckResult:
    try:
        got = json.loads(answer)
    except (ValueError, RecursionError):
        return CheckResult(False, 0.0, "not JSON")
    expected = _parsed(check)
    if _is_schema(expected):
        error = next(_validator(json.dumps(expected, sort_keys=True)).iter_errors(got), None)
        return _mark(error is None, f"schema: {error.message}" if error else "")
    if not isinstance(expected, dict):
        return _mark(_same(got, expected), "differs from the expected value")
    return _fields(check, expected, got)


def _fields(check: Check, expected: dict[str, Any], got: Any) -> CheckResult:
    names = check.fields if check.fields is not None else list(expected)
    if not isinstance(got, dict):
        return CheckResult(False, 0.0, "not a JSON object")
    wrong = [name for name in names if not _same(_at(got, name), _at(expected, name))]
    score = 1 - len(wrong) / len(names) if names else 1.0
    return CheckResult(not wrong, score, f"wrong: {', '.join(wrong)}" if wrong else "")


CHECKS: Final[dict[CheckKind, Callable[[Check, str], CheckResult]]] = {
    "exact": _exact,
    "normalised": _normalised,
    "json": _json,
    "contains": _contains,
    "regex": _regex,
}


def _mark(passed: bool, detail: str) -> CheckResult:
    return CheckResult(passed, float(passed), "" if passed else detail)


def _same(got: Any, expected: Any) -> bool:
    """Equal as JSON: 1 and 1.0 are, 1 and true are not; text counts as it stands."""
    if got is _MISSING or expected is _MISSING:
        return False
    if isinstance(got, bool) or isinstance(expected, bool):
        return got is expected
    if isinstance(got, dict) and isinstance(expected, dict):
        return got.keys() == expected.keys() and all(_same(got[key], expected[key]) for key in got)
    if isinstance(got, list) and isinstance(expected, list):
        return len(got) == len(expected) and all(map(_same, got, expected))
    return got == expected


def _at(value: Any, path: str) -> Any:
    """A field, or a nested one by its dotted path; a key that itself holds a dot comes first."""
    if isinstance(value, dict) and path in value:
        return value[path]
    head, dot, rest = path.partition(".")
    if dot and isinstance(value, dict) and head in value:
        return _at(value[head], rest)
    return _MISSING


def _text(check: Check) -> str:
    if not isinstance(check.expected, str):
        raise UsageError(f"a check of kind '{check.kind}' expects a text, got {type(check.expected).__name__}")
    return check.expected


def _texts(check: Check) -> list[str]:
    wanted = check.expected if isinstance(check.expected, list) else [check.expected]
    if not wanted or not all(isinstance(text, str) and text.strip() for text in wanted):
        raise UsageError("a check of kind 'contains' expects a text, or a list of texts, none of them empty")
    return [str(text) for text in wanted]


def _parsed(check: Check) -> Any:
    if not isinstance(check.expected, str):
        return check.expected
    try:
        return json.loads(check.expected)
    except ValueError as error:
        raise UsageError(f"a check of kind 'json' expects JSON, got {check.expected[:80]!r}") from error


def _is_schema(expected: Any) -> bool:
    return isinstance(expected, dict) and "$schema" in expected


@functools.lru_cache(maxsize=256)
def _pattern(text: str) -> regex.Pattern[str]:
    try:
        return regex.compile(text)
    except regex.error as error:
        raise UsageError(f"a check of kind 'regex' has a pattern that does not compile: {error}") from error


@functools.lru_cache(maxsize=256)
def _validator(schema: str) -> Draft202012Validator:
    loaded = json.loads(schema)
    kind: Any = validator_for(loaded, default=Draft202012Validator)
    try:
        kind.check_schema(loaded)
    except SchemaError as error:
        raise UsageError(f"a check of kind 'json' has a schema that is not one: {error.message}") from error
    return kind(loaded)
