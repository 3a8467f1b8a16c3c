"""Whether a target looks like good answers do: the usual JSON keys and types, and values others gave too.

Nothing about the product is configured: the shape is what most raters' answers have. Where a field (or the
whole answer) is drawn from a small vocabulary, a value that only one of several people ever gave is not part of it.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence

from flywheel.quality.rows import Candidate
from flywheel.quality.signals.context import Context, Forms, Measured, Shape
from flywheel.quality.signals.declare import Declared
from flywheel.text.answers import answer_key, parse_object

MAJORITY = 0.6
"""A shape counts as usual when at least this share of the answers have it."""
CLOSED_SHARE = 0.2
"""Fewer distinct values than this share of the answers: a closed vocabulary."""
MIN_ROWS = 20
"""With fewer answers nothing can be called usual."""
SEVERAL = 3
"""With fewer raters a value that one of them alone gave may be as good as any."""
WHOLE = "(answer)"
NULL = "null"


def signal(measured: Measured, context: Context) -> float | None:
    """1: usual shape and known values; 0.5: usual shape, unknown value; 0: unusual shape; None: no usual shape."""
    forms = context.forms
    if not forms.known:
        return None
    if not fits(measured.row.target, forms.shape):
        return 0.0
    values = field_values(measured.row.target)
    known = all(values[name] in allowed for name, allowed in forms.values.items() if name in values)
    return 1.0 if known else 0.5


def shape(text: str) -> Shape:
    """Keys with their JSON types for an object, else none; 5 and 5.5 are both numbers."""
    value = parse_object(text)
    return None if value is None else {key: _kind(item) for key, item in value.items()}


def fits(text: str, usual: Shape) -> bool:
    """Whether an answer has the usual keys and types; null fits any type."""
    own = shape(text)
    if own is None or usual is None:
        return own is usual
    return own.keys() == usual.keys() and all(kind in (usual[key], NULL) for key, kind in own.items())


def _kind(value: object) -> str:
    if value is None:
        return NULL
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return "number" if number else type(value).__name__


def common_shape(texts: Sequence[str]) -> tuple[bool, Shape]:
    """Whether most of these answers have one shape, of enough to tell; and which: of each key the commonest type."""
    if len(texts) < MIN_ROWS:
        return False, None
    usual = _usual([shape(text) for text in texts])
    return sum(fits(text, usual) for text in texts) >= MAJORITY * len(texts), usual


def _usual(shapes: Sequence[Shape]) -> Shape:
    keys, _ = Counter(None if one is None else tuple(sorted(one)) for one in shapes).most_common(1)[0]
    if keys is None:
        return None
    alike = [one for one in shapes if one is not None and tuple(sorted(one)) == keys]
    kinds = {key: Counter(one[key] for one in alike if one[key] != NULL).most_common(1) for key in keys}
    return {key: found[0][0] if found else NULL for key, found in kinds.items()}


def field_values(text: str) -> dict[str, str]:
    """Field -> canonical value of a JSON object; a text is a single field."""
    value = parse_object(text)
    if value is None:
        return {WHOLE: answer_key(text)}
    return {key: json.dumps(item, sort_keys=True) for key, item in value.items()}


def learn(rows: Sequence[Candidate]) -> Forms:
    """The usual form, each rater and answer counted once so that volume does not decide."""
    said = sorted({(who, answer_key(row.target)): row for row in rows for who in row.raters()}.items())
    known, usual = common_shape([row.target for _, row in said])
    if not known:
        return Forms(known=False)
    formed = [(rater, row) for (rater, _), row in said if fits(row.target, usual)]
    people: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for rater, row in formed:
        for name, value in field_values(row.target).items():
            people[name][value].add(rater)
    closed = {name: seen for name, seen in people.items() if len(seen) <= CLOSED_SHARE * len(formed)}
    needed = 2 if len({rater for rater, _ in formed}) >= SEVERAL else 1
    values = {name: frozenset(v for v, who in seen.items() if len(who) >= needed) for name, seen in closed.items()}
    return Forms(known=True, shape=usual, values=values)


FORMAT = Declared(
    name="format", version="2", cost="free", scope="rows", group="form", scale="0, 0.5 or 1, higher is better",
    inputs=("target", "forms"),
    measures="whether the target has the JSON keys and types most people's answers have, and values others gave too",
    gamed="the right form is easily given to a wrong answer; a new field looks odd until most answers have it",
    function=signal, decides=("unusual_format",),
)  # fmt: skip
