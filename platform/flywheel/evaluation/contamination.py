"""Was a model trained on what it is tested with? Rows of a dataset against the cases of suites. Pure.

What counts as overlap is ``text.overlap``'s rule, the same that keeps rows out of a dataset. Rows are a stream; the
cases are indexed once. Findings hold ids, kinds and lengths and never a text: a text may be a person's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, Literal, NamedTuple

from pydantic import Field

from flywheel.records import CheckKind, EvalCase, Record
from flywheel.text.overlap import Overlap, OverlapIndex, OverlapKind, conversation_texts, stronger

BLOCK: Final = 1_024
"""Rows that are compared at once: what is held of a stream."""

_ANSWERS: Final[frozenset[CheckKind]] = frozenset({"exact", "normalised", "similarity", "reward"})
"""Kinds whose expected text is an answer, not a pattern, a criterion or a test."""


class Row(NamedTuple):
    """A row of a dataset: its id and the texts that a model sees of it (see ``conversation_texts``)."""

    row_id: str
    texts: Sequence[str]


class Finding(Record):
    """A row that overlaps with a case. The strongest overlap of the pair counts."""

    row_id: str
    case_id: str
    suite: str
    kind: OverlapKind
    part: Literal["prompt", "prompt+answer"] = Field(description="what of the case was found")
    score: float = Field(description="exact: 1; near: Jaccard index; ngram: share of the case's n-grams")
    row_length: int = Field(description="characters of the row's text that overlaps")
    case_length: int = Field(description="characters of the case's text that was found")


class _Source(NamedTuple):
    case: EvalCase
    part: Literal["prompt", "prompt+answer"]


class Suites:
    """The cases that rows are compared with."""

    def __init__(self, cases: Iterable[EvalCase], *, answers: bool = True) -> None:
        """Index the cases' texts; ``answers``: with the expected answers, too.

        A long answer that serves many questions makes all of them near to each other. It is worth a look, and no
        reason to refuse a row: what was asked decides about that.
        """
        self._sources: defaultdict[str, list[_Source]] = defaultdict(list)
        for case in cases:
            for text in conversation_texts(case.messages):
                self._sources[text].append(_Source(case, "prompt"))
            for text in _with_answer(case) if answers else ():
                self._sources[text].append(_Source(case, "prompt+answer"))
        self._index = OverlapIndex(self._sources)

    def find(self, rows: Iterable[Row]) -> Iterator[Finding]:
        """Every pair of a row and a case that overlap, row by row as they come."""
        stream = iter(rows)
        while block := list(islice(stream, BLOCK)):
            overlaps = iter(self._index.find([text for row in block for text in row.texts]))
            for row in block:
                yield from self._of_row(row, list(islice(overlaps, len(row.texts))))

    def _of_row(self, row: Row, overlaps: Sequence[dict[str, Overlap]]) -> Iterator[Finding]:
        best: dict[tuple[str, str], tuple[Overlap, Finding]] = {}
        for text, found in zip(row.texts, overlaps, strict=True):
            for known, overlap in found.items():
                for case, part in self._sources[known]:
                    key = case.suite, case.case_id
                    if key not in best or stronger(best[key][0], overlap) is not best[key][0]:
                        best[key] = overlap, Finding(
                            row_id=row.row_id, case_id=case.case_id, suite=case.suite, kind=overlap.kind, part=part,
                            score=round(overlap.score, 4), row_length=len(text), case_length=len(known),
                        )  # fmt: skip
        yield from (finding for _, finding in best.values())


def _with_answer(case: EvalCase) -> list[str]:
    expected = case.check.expected
    if case.check.kind not in _ANSWERS or not isinstance(expected, str) or not expected.strip():
        return []
    return conversation_texts(case.messages, expected)[-1:]
