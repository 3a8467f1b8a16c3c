"""Limits on JSON: what a body may be built of before it is parsed, and what its free-form parts may hold after.

Text of a megabyte is one object in memory; a megabyte of ``[[],[],...`` is twenty times that. So the pieces of a
body are counted before anything is made of them: first with a count that strings can only make too high, and
exactly only for a body that looks suspicious.
"""

from __future__ import annotations

import math
import re
from typing import Any

from pydantic_core import from_json

from flywheel.gateway.problems import ApiProblem, bad_request

MAX_PIECES = 20_000
"""Objects, arrays and members of one body."""
MAX_DEPTH = 32
"""Of a free-form part: a JSON schema, the parameters of a tool. The parser itself stops at 200."""
INT64 = 2**63

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)


def read_json(raw: bytes) -> dict[str, Any]:
    """A request body as an object. Of a key that is given twice the last one counts, here and for whatever is recorded.

    Raises:
        ApiProblem: 400: no JSON (NaN, invalid UTF-8 and half surrogate pairs included), no object, too many pieces.
    """
    _check_pieces(raw)
    try:
        body = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise bad_request(f"the body is not JSON: {error}", "invalid_json") from None
    if not isinstance(body, dict):
        raise bad_request(f"the body must be a JSON object, not {type(body).__name__}", "invalid_json")
    return body


def check_free(value: Any, param: str) -> None:
    """Return when a free-form part is one that every engine and store can hold.

    Raises:
        ApiProblem: 400: nested too deeply, or a number that is not finite or has more than 64 bits.
    """
    layer = [value]
    for _ in range(MAX_DEPTH):
        for item in layer:
            _check_number(item, param)
        layer = [inner for item in layer for inner in _inside(item)]
        if not layer:
            return
    raise bad_request(f"'{param}' is nested more than {MAX_DEPTH} deep", "too_deep", param=param)


def _inside(item: Any) -> Any:
    if isinstance(item, dict):
        return item.values()
    return item if isinstance(item, list) else ()


def _check_number(item: Any, param: str) -> None:
    if isinstance(item, float) and not math.isfinite(item):
        raise bad_request(f"'{param}' holds a number that is not finite", "invalid_value", param=param)
    if isinstance(item, int) and not -INT64 <= item < INT64:
        raise bad_request(f"'{param}' holds a whole number of more than 64 bits", "invalid_value", param=param)


def _check_pieces(raw: bytes) -> None:
    if _pieces(raw) > MAX_PIECES and _pieces(_STRING.sub(b"", raw)) > MAX_PIECES:
        raise ApiProblem(
            400, f"the body has more than {MAX_PIECES} members and items", "invalid_request_error", code="too_complex"
        )


def _pieces(raw: bytes) -> int:
    return raw.count(b",") + raw.count(b"[") + raw.count(b"{")
