"""A case through a person's hands: approved, edited, retired. Each change is a new version with who made it."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from pydantic import Field, ValidationError

from flywheel.errors import UsageError
from flywheel.evaluation.cases import store_cases, stored_cases
from flywheel.evaluation.checks import validate
from flywheel.evaluation.frozen import is_frozen
from flywheel.evaluation.mining import UNWRITTEN
from flywheel.lake.tables import Lake
from flywheel.records import CaseStatus, Check, EvalCase, EvalResult, Message, Record

SAMPLE: Final = "random"
"""The suite, and the origin, of cases that are a random sample of traffic."""
NEVER_SATURATED: Final = frozenset({"random", "starter", "golden", "regression", "safety"})
"""Suites that lose their meaning without the cases every model passes: samples, and guards."""


class CaseEdit(Record):
    """What a person may change of a case; None stays as it is. Also the file that ``flywheel cases edit`` opens."""

    messages: list[Message] | None = Field(default=None, min_length=1)
    check: Check | None = None
    suite: str | None = Field(default=None, min_length=1)
    slice: str | None = None
    slices: dict[str, str] | None = None


class Choice(Record):
    """Which cases: all conditions that are given must hold."""

    ids: list[str] = Field(default_factory=list, description="whole ids, or beginnings that only one case has")
    suite: str | None = None
    cluster: str | None = None
    status: CaseStatus | None = None

    @property
    def empty(self) -> bool:
        """Whether it names nothing, and so means every case."""
        return not (self.ids or self.suite or self.cluster or self.status)


def choose(cases: Iterable[EvalCase], choice: Choice) -> list[EvalCase]:
    """The chosen ones, by priority (without one last), then by suite and id.

    Raises:
        UsageError: an id belongs to no case, or to several.
    """
    ordered = sorted(cases, key=lambda case: (-(case.priority or 0.0), case.suite, case.case_id))
    named = {_one(ordered, text).case_id for text in choice.ids} or None
    wanted = {"suite": choice.suite, "cluster": choice.cluster, "status": choice.status}
    return [
        case
        for case in ordered
        if (named is None or case.case_id in named)
        and all(value is None or getattr(case, field) == value for field, value in wanted.items())
    ]


def approved(case: EvalCase, *, reviewer: str, edit: CaseEdit | None = None) -> EvalCase:
    """The case as an active one.

    Raises:
        UsageError: it has no check yet, or one that could mark nothing.
    """
    changed = edited(case, edit or CaseEdit(), reviewer=reviewer)
    if changed.check == UNWRITTEN:
        raise UsageError(
            f"{case.case_id} has no check yet: say what a right answer is, with --check-kind and --expected, or with "
            f"`flywheel cases edit {case.case_id}`"
        )
    return changed.model_copy(update={"status": "active"})


def edited(case: EvalCase, edit: CaseEdit, *, reviewer: str) -> EvalCase:
    """The case with these changes; its status stays.

    Raises:
        UsageError: the check could mark nothing, or the suite has the name of a frozen one, or is the random sample
            and the case was not drawn.
    """
    if edit.check is not None:
        validate(edit.check)
    if edit.suite is not None and is_frozen(edit.suite):
        raise UsageError(f"'{edit.suite}' is a frozen suite, which never changes; name one without @")
    if edit.suite == SAMPLE and case.origin != SAMPLE:
        raise UsageError(
            f"{case.case_id} was not drawn at random, so it cannot enter '{SAMPLE}', whose accuracy stands for that of "
            "all traffic; give it another suite, such as golden. New random cases come from `flywheel label`."
        )
    given = {name: getattr(edit, name) for name in edit.model_fields_set}
    # Only the slice can be taken away; nothing else of a case may be empty.
    return _settled(
        case, reviewer, **{name: value for name, value in given.items() if value is not None or name == "slice"}
    )


def retired_by(case: EvalCase, *, reviewer: str) -> EvalCase:
    """The case as one that is evaluated no more, except in suites that were frozen with it."""
    return _settled(case, reviewer, status="retired")


def change_cases(lake: Lake, flow: str, choice: Choice, change: Callable[[EvalCase], EvalCase]) -> list[EvalCase]:
    """Change the chosen cases, all or none, and store them; what is as wished already stays as it is.

    Returns:
        The cases as they are now.

    Raises:
        UsageError: nothing is chosen, or one of them cannot be changed.
    """
    chosen = [] if choice.empty else choose(stored_cases(lake, flow), choice)
    if not chosen:
        raise UsageError("no such case; list them with `flywheel cases list`")
    store_cases(lake, flow, [change(case) for case in chosen])
    ids = {case.case_id for case in chosen}
    return [case for case in stored_cases(lake, flow) if case.case_id in ids]


def check_of(kind: str, expected: str) -> Check:
    """A check as typed on the command line; ``expected`` is JSON where the kind takes more than a text.

    Raises:
        UsageError: no such kind, or nothing that it could mark with.
    """
    value: Any = expected
    try:
        parsed = json.loads(expected)
    except ValueError:
        parsed = None
    if isinstance(parsed, list | dict) and kind != "regex":
        value = parsed
    try:
        check = Check.model_validate({"kind": kind, "expected": value})
    except ValidationError as error:
        raise UsageError(f"--check-kind: {error.errors()[0]['msg']}") from error
    validate(check)
    return check


def saturated(
    cases: Iterable[EvalCase],
    results: Iterable[EvalResult],
    versions: Sequence[str],
    *,
    least: int,
    kept: Collection[str],
) -> list[EvalCase]:
    """Active cases that tell models apart no longer: the last ``least`` models marked on them all passed.

    Args:
        cases: the latest version of each.
        results: of any model; those of earlier versions of a case do not count.
        versions: model versions, the oldest first; others do not count.
        least: different models that must have passed, and none of the last so many failed.
        kept: further suites from which nothing is retired, such as primary and guard suites.
    """
    passed = passes(results)
    order = {version: place for place, version in enumerate(versions)}
    found = []
    for case in cases:
        marks = {model: mark for model, mark in passed.get((case.case_id, case.version), {}).items() if model in order}
        last = sorted(marks, key=lambda model: order[model])[-least:]
        frozen_in_place = case.status != "active" or case.suite in NEVER_SATURATED or case.suite in kept
        if not frozen_in_place and len(last) == least and all(marks[model] for model in last):
            found.append(case)
    return found


def passes(results: Iterable[EvalResult]) -> Mapping[tuple[str, int], dict[str, bool]]:
    """Whether each model passed each version of a case, in every run that asked; answers that failed do not count."""
    found: dict[tuple[str, int], dict[str, bool]] = {}
    for row in results:
        if row.error is None:
            marks = found.setdefault((row.case_id, row.case_version), {})
            marks[row.model_version] = row.passed and marks.get(row.model_version, True)
    return found


def _settled(case: EvalCase, reviewer: str, **changes: Any) -> EvalCase:
    return EvalCase.model_validate({**dict(case), **changes, "reviewer": reviewer, "settled": True})


def _one(cases: Iterable[EvalCase], text: str) -> EvalCase:
    found = [case for case in cases if case.case_id.startswith(text) or case.case_id.startswith(f"case-{text}")]
    exact = [case for case in found if case.case_id == text]
    if len(exact or found) != 1:
        several = f"{len(found)} cases begin with" if found else "no case has the id"
        raise UsageError(f"{several} '{text}'; list them with `flywheel cases list`")
    return (exact or found)[0]
