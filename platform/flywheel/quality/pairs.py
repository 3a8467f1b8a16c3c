"""Which answers a target must beat: the corrected answer, and answers made from other prompts'. Pure.

Answers to other prompts are in-batch negatives: they teach that an answer must fit *this* prompt. For JSON
answers they differ from the target in a single field, so each field has to be right by itself.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from flywheel.quality.rows import Candidate
from flywheel.text.answers import answer_key, parse_object
from flywheel.text.hashing import stable_hash


@dataclass(frozen=True)
class AnswerPool:
    """Answers and field values seen in the candidates, most frequent first (ties by text)."""

    answers: list[str]
    fields: dict[tuple[str, ...], dict[str, list[Any]]] = field(default_factory=dict)

    @staticmethod
    def of(rows: Sequence[Candidate]) -> AnswerPool:
        """Count what the targets say, once a rater, so that volume does not buy a place."""
        said = {(rater, answer_key(row.target)): row.target for row in rows for rater in row.raters()}
        texts: dict[str, str] = {}
        counts: Counter[str] = Counter()
        values: dict[tuple[str, ...], dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        for (_, key), text in sorted(said.items()):
            counts[key] += 1
            texts.setdefault(key, text)
            parsed = parse_object(text)
            for name, value in (parsed or {}).items():
                values[tuple(sorted(parsed or {}))][name][json.dumps(value, sort_keys=True)] += 1
        return AnswerPool(
            answers=[texts[key] for key in _by_count(counts)],
            fields={
                keys: {name: [json.loads(value) for value in _by_count(seen)] for name, seen in columns.items()}
                for keys, columns in values.items()
            },
        )


def contrasts(row: Candidate, pool: AnswerPool, count: int, *, salt: str | None = None) -> list[str]:
    """Up to ``count`` answers that differ from the target (and from the served answer of a correction).

    Without ``salt`` the most frequent alternatives, the same for all rows (scoring); with it a draw by
    content hash (training).
    """
    taken = {answer_key(row.target), answer_key(row.answer)}
    parsed = parse_object(row.target)
    columns = pool.fields.get(tuple(sorted(parsed)), {}) if parsed else {}
    source = _swaps(parsed, columns, row, salt) if parsed and columns else _others(pool, row, salt)
    chosen: list[str] = []
    for text in source:
        if len(chosen) >= count:
            break
        if answer_key(text) not in taken:
            taken.add(answer_key(text))
            chosen.append(text)
    return chosen


def _others(pool: AnswerPool, row: Candidate, salt: str | None) -> Iterator[str]:
    yield from _ordered(pool.answers, row, salt)


def _swaps(parsed: dict[str, Any], columns: dict[str, list[Any]], row: Candidate, salt: str | None) -> Iterator[str]:
    """The target with one field replaced, taking the fields in turn."""
    queues = {name: iter(_ordered(columns.get(name, []), row, salt and f"{salt}/{name}")) for name in parsed}
    while queues:
        for name in list(queues):
            value = next(queues[name], _END)
            if value is _END:
                del queues[name]
            elif value != parsed[name]:
                # Same serialisation as json's default, which is what models answer with most often.
                yield _like(row.target, {**parsed, name: value})


_END = object()


def _ordered(values: Sequence[Any], row: Candidate, salt: str | None) -> list[Any]:
    if salt is None:
        return list(values)
    return sorted(values, key=lambda value: stable_hash(salt, row.inference_id, json.dumps(value, sort_keys=True)))


def _like(original: str, value: dict[str, Any]) -> str:
    """Serialise ``value`` with the spacing of ``original``, so that spacing betrays nothing."""
    for separators in ((", ", ": "), (",", ":")):
        if json.dumps(json.loads(original), separators=separators, ensure_ascii=False) == original:
            return json.dumps(value, separators=separators, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False)


def _by_count(counts: Counter[str]) -> list[str]:
    return sorted(counts, key=lambda key: (-counts[key], key))
