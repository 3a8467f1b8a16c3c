"""What every check is made of: the mark it gives, what it validates, and who helps where a text alone does not do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from flywheel.errors import UsageError
from flywheel.records import Check, CheckKind, Message

MISSING: Final = object()
"""A field that is not there; ``None`` is a value of JSON."""


@dataclass(frozen=True)
class CheckResult:
    """One mark: passed or not, a score in [0, 1] (1 exactly when passed), and why not."""

    passed: bool
    score: float
    detail: str = ""


class Item(NamedTuple):
    """One answer to be marked: the conversation that asked for it, how it is marked, what was answered."""

    messages: Sequence[Message]
    check: Check
    answer: str


class Opinion(NamedTuple):
    """What a scorer says about one item. ``score`` None: it has no opinion, which never passes."""

    score: float | None
    detail: str = ""


Scorer = Callable[[Sequence[Item]], Sequence[Opinion]]
"""Scores many items of one kind at once, in their order. Raises where it cannot work at all."""


@dataclass(frozen=True)
class Scorers:
    """What marks the kinds that need a model or a sandbox. Built by the workflow: no check loads a model itself."""

    by_kind: Mapping[CheckKind, Scorer] = field(default_factory=dict[CheckKind, Scorer])
    absent: Mapping[CheckKind, str] = field(default_factory=dict[CheckKind, str])
    """kind -> what to do to have its scorer, a sentence"""
    versions: Mapping[CheckKind, str] = field(default_factory=dict[CheckKind, str])
    """kind -> what exactly scores: the same answer marked by another version is another result"""

    def get(self, kind: CheckKind) -> Scorer:
        """The scorer of a kind.

        Raises:
            UsageError: there is none; says how to get one.
        """
        if kind not in self.by_kind:
            raise UsageError(self.absent.get(kind) or f"a check of kind '{kind}' needs a scorer, and none was given")
        return self.by_kind[kind]


@dataclass(frozen=True)
class Rule:
    """A check that marks from the answer's text alone."""

    validate: Callable[[Check], None]
    mark: Callable[[Check, str], CheckResult]


@dataclass(frozen=True)
class ScoredRule:
    """A check that marks from what a scorer says about the answer."""

    validate: Callable[[Check], None]
    grade: Callable[[Check, Opinion], CheckResult]


def verdict(passed: bool, detail: str) -> CheckResult:
    """All or nothing; ``detail`` says why not."""
    return CheckResult(passed, float(passed), "" if passed else detail)


def text_of(check: Check) -> str:
    """The expected text.

    Raises:
        UsageError: it is not a text.
    """
    if not isinstance(check.expected, str):
        raise UsageError(f"a check of kind '{check.kind}' expects a text, got {type(check.expected).__name__}")
    return check.expected


def at_path(value: Any, path: str) -> Any:
    """A field, or a nested one by its dotted path; a key that itself holds a dot comes first. ``MISSING`` if absent."""
    if isinstance(value, dict) and path in value:
        return value[path]
    head, dot, rest = path.partition(".")
    if dot and isinstance(value, dict) and head in value:
        return at_path(value[head], rest)
    return MISSING
