"""Whether a target looks like good answers do: the usual JSON keys and types, and values others gave too.

Nothing about the product is configured: the shape is what most raters' answers have. Where a field (or the
whole answer) is drawn from a small vocabulary, a value that only one person ever gave is not part of it.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence

from flywheel.quality.rows import Candidate
from flywheel.quality.signals.context import Context, Forms, Measured
from flywheel.quality.signals.declare import Declared
from flywheel.text.answers import answer_key, parse_object

MAJORITY = 0.6
"""A shape counts as usual when at least this share of the answers have it."""
CLOSED_SHARE = 0.2
"""Fewer distinct values than this share of the answers: a closed vocabulary."""
MIN_ROWS = 20
"""With fewer answers nothing can be called usual."""
WHOLE = "(answer)"


def signal(measured: Measured, context: Context) -> float | None:
    """1: usual shape and known values; 0.5: usual shape, unknown value; 0: unusual shape; None: no usual shape."""
    forms = context.forms
    if forms.shape is None:
        return None
    if shape(measured.row.target) != forms.shape:
        return 0.0
    values = field_values(measured.row.target)
    known = all(values[name] in allowed for name, allowed in forms.values.items() if name in values)
    return 1.0 if known else 0.5


def shape(text: str) -> tuple[str, ...]:
    """Keys with their JSON types for an object, else just ``text``."""
    value = parse_object(text)
    return ("text",) if value is None else tuple(sorted(f"{key}:{type(item).__name__}" for key, item in value.items()))


def field_values(text: str) -> dict[str, str]:
    """Field -> canonical value of a JSON object; a text is a single field."""
    value = parse_object(text)
    if value is None:
        return {WHOLE: answer_key(text)}
    return {key: json.dumps(item, sort_keys=True) for key, item in value.items()}


def learn(rows: Sequence[Candidate]) -> Forms:
    """The usual form, each rater and answer counted once so that volume does not decide."""
    said = sorted({(row.rater, answer_key(row.target)): row for row in rows}.items())
    if len(said) < MIN_ROWS:
        return Forms(None)
    usual, count = Counter(shape(row.target) for _, row in said).most_common(1)[0]
    if count < MAJORITY * len(said):
        return Forms(None)
    people: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for (rater, _), row in said:
        if shape(row.target) == usual:
            for name, value in field_values(row.target).items():
                people[name][value].add(rater)
    closed = {name: seen for name, seen in people.items() if len(seen) <= CLOSED_SHARE * count}
    values = {name: frozenset(v for v, who in seen.items() if len(who) > 1) for name, seen in closed.items()}
    return Forms(usual, values)


FORMAT = Declared(
    name="format", version="1", cost="free", scope="rows", group="form", scale="0, 0.5 or 1, higher is better",
    inputs=("target", "forms"),
    measures="whether the target has the JSON keys and types most people's answers have, and values others gave too",
    gamed="the right form is easily given to a wrong answer; a new field looks odd until most answers have it",
    function=signal, decides=("unusual_format",),
)  # fmt: skip
