"""The answer is JSON and agrees with the expected value, or validates against it where it is a JSON Schema.

The score is the share of right fields of an object, and of right places of an array (the longer of the two counts).
An expected object that has ``$schema`` is a schema: all or nothing.
"""

from __future__ import annotations

import functools
import json
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from jsonschema.validators import validator_for

from flywheel.errors import UsageError
from flywheel.evaluation.checks.base import MISSING, CheckResult, Rule, at_path, verdict
from flywheel.records import Check


def _validate(check: Check) -> None:
    expected = _parsed(check)
    if _is_schema(expected):
        _validator(json.dumps(expected, sort_keys=True))
    elif absent := [name for name in check.fields or () if at_path(expected, name) is MISSING]:
        raise UsageError(f"a check of kind 'json' compares the field '{absent[0]}', which it does not expect")


def _mark(check: Check, answer: str) -> CheckResult:
    try:
        got = json.loads(answer)
    except (ValueError, RecursionError):
        return verdict(False, "not JSON")
    expected = _parsed(check)
    if _is_schema(expected):
        error = next(_validator(json.dumps(expected, sort_keys=True)).iter_errors(got), None)
        return verdict(error is None, f"schema: {error.message}" if error else "")
    if isinstance(expected, dict):
        return _fields(check, expected, got)
    if isinstance(expected, list):
        return _places(expected, got)
    return verdict(same(got, expected), "differs from the expected value")


def _fields(check: Check, expected: dict[str, Any], got: Any) -> CheckResult:
    names = check.fields if check.fields is not None else list(expected)
    if not isinstance(got, dict):
        return verdict(False, "not a JSON object")
    if not names:  # nothing to extract: what is said all the same is made up
        return verdict(not got, f"expected no field, got {', '.join(map(str, got))}")
    wrong = [name for name in names if not same(at_path(got, name), at_path(expected, name))]
    return CheckResult(not wrong, 1 - len(wrong) / len(names), f"wrong: {', '.join(wrong)}" if wrong else "")


def _places(expected: list[Any], got: Any) -> CheckResult:
    if not isinstance(got, list):
        return verdict(False, "not a JSON array")
    longer = max(len(expected), len(got))
    right = sum(map(same, got, expected))
    score = right / longer if longer else 1.0
    return CheckResult(score == 1, score, "" if score == 1 else f"{right} of {longer} places are right")


def same(got: Any, expected: Any) -> bool:
    """Equal as JSON: 1 and 1.0 are, 1 and true are not; text counts as it stands."""
    if got is MISSING or expected is MISSING:
        return False
    if isinstance(got, bool) or isinstance(expected, bool):
        return got is expected
    if isinstance(got, dict) and isinstance(expected, dict):
        return got.keys() == expected.keys() and all(same(got[key], expected[key]) for key in got)
    if isinstance(got, list) and isinstance(expected, list):
        return len(got) == len(expected) and all(map(same, got, expected))
    return got == expected


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
def _validator(schema: str) -> Draft202012Validator:
    loaded = json.loads(schema)
    kind: Any = validator_for(loaded, default=Draft202012Validator)
    try:
        kind.check_schema(loaded)
    except SchemaError as error:
        raise UsageError(f"a check of kind 'json' has a schema that is not one: {error.message}") from error
    return kind(loaded)


RULE = Rule(_validate, _mark)
