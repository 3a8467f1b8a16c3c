"""Suites: cases built from labels and failures, stored with versions, read back as what holds now.

``random``    from labels of split ``gate`` drawn at random: the primary suite, the only one that decides
``starter``   from the curated labels of split ``gate``: never part of the random sample
``failures``  from corrected failures on the evaluation side: selected by the live model's own errors, so it
              is reported as fixed and newly broken and never decides
Imported suites bear the names their files gave them; ``golden@1a2b3c4d5e6f`` is a suite as it was frozen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Literal

from flywheel.errors import BusyError, UsageError
from flywheel.evaluation.checks import check_for
from flywheel.evaluation.frozen import frozen_cases, is_frozen
from flywheel.evaluation.slices import served, slices_of
from flywheel.lake.manifests import content_id
from flywheel.lake.tables import Lake
from flywheel.records import EvalCase, Feedback, Inference, Label
from flywheel.review.labels import latest_per_inference
from flywheel.review.settle import expected_answer, open_disputes, question_of

Slicer = Callable[[Inference, str], str | None]
"""(inference, expected answer) -> the group its case is reported under."""

_ATTEMPTS = 20
_SLICE_LENGTH = 40


def random_suite(
    labels: Iterable[Label], inferences: Mapping[str, Inference], *, slicer: Slicer | None = None
) -> list[EvalCase]:
    """The primary suite. Labels of other splits, curated ones and rows no longer there are passed over.

    So are answers that were only rejected, rated or compared (nobody said what would be right), and those on which
    reviewers disagree until somebody adjudicates.
    """
    return _from_labels(labels, inferences, suite="random", drawn="random", slicer=slicer)


def starter_suite(
    labels: Iterable[Label], inferences: Mapping[str, Inference], *, slicer: Slicer | None = None
) -> list[EvalCase]:
    """The curated cases of split ``gate``, but for those drawn for the random sample since, which are of that alone.

    Where everybody of split ``gate`` was drawn in the end, as in the demo, nothing is left here.
    """
    return _from_labels(labels, inferences, suite="starter", drawn="curated", slicer=slicer)


def failures_suite(
    feedback: Iterable[Feedback],
    inferences: Mapping[str, Inference],
    *,
    evaluation_side: Collection[str],
    labels: Iterable[Label] = (),
    slicer: Slicer | None = None,
) -> list[EvalCase]:
    """Cases of corrected failures. A reviewer's verdict on the row, where there is one, beats the user's correction.

    A rejection leaves the user's correction as it is; a row that reviewers dispute gives no case.

    Args:
        feedback: corrections among it are used, the latest of each inference.
        inferences: by id; only these are looked at, so the caller decides about consent.
        evaluation_side: ids on the evaluation side of ``review.splits.failure_split``.
        labels: reviewed answers.
        slicer: how cases are grouped; default ``slice_of``.
    """
    said = list(labels)
    reviewed, disputed = latest_per_inference(said), open_disputes(said)
    corrections = {
        event.inference_id: event.text
        for event in sorted(feedback, key=lambda event: (event.ts, event.feedback_id))
        if event.kind == "correction" and event.text
    }
    cases = []
    for inference_id, text in sorted(corrections.items()):
        row = inferences.get(inference_id)
        if row is None or inference_id not in evaluation_side or inference_id in disputed:
            continue
        label = reviewed.get(inference_id)
        known = _expected(label, row) if label else None
        reviewer = label.annotator if label and known is not None else None
        expected = text if known is None else known
        cases.append(_case(row, expected, "failures", "failure", reviewer=reviewer, slicer=slicer))
    return cases


def slice_of(_row: Inference, expected: str) -> str | None:
    """Default grouping: the first field of an expected JSON object, or the whole of a short one-line answer."""
    try:
        value = json.loads(expected)
    except ValueError:
        value = expected
    if isinstance(value, dict):
        value = next(iter(value.values()), None)
    text = str(value).strip()
    return text if isinstance(value, str) and 0 < len(text) <= _SLICE_LENGTH and "\n" not in text else None


def case_id(row: Inference, suite: str) -> str:
    """Identity of the case that a suite makes of a captured request."""
    return content_id("case", row.flow, suite, row.inference_id)


def store_cases(lake: Lake, flow: str, cases: Sequence[EvalCase]) -> int:
    """Append what is new; a case whose messages, check or status changed gets the next version.

    What a person settled is written over by another person only, or retired when it may no longer be used.

    Returns:
        Rows appended; 0 when all are there already.

    Raises:
        BusyError: other writers won every attempt.
    """
    app = f"eval_cases/{flow}"
    for _ in range(_ATTEMPTS):
        last = lake.last_committed("eval_cases", app)
        rows = lake.records("eval_cases", EvalCase, flow=flow)
        known, closed = _latest(rows), _retired_by_people(rows)
        found = (_versioned(case, known.get(case.case_id), closed=case.case_id in closed) for case in cases)
        fresh = [case for case in found if case is not None]
        if not fresh or lake.append("eval_cases", fresh, app=app, version=0 if last is None else last + 1):
            return len(fresh)
    raise BusyError(f"the cases of flow '{flow}' are being written by many others; try again in a moment")


def load_cases(lake: Lake, flow: str, suites: Collection[str] | None = None) -> list[EvalCase]:
    """The latest version of each active case of these suites (none: all), by suite and id.

    A frozen suite (``golden@1a2b3c4d5e6f``) gives the versions it names, under its whole name. Cases whose people no
    longer consent are missing from it.

    Raises:
        NotFoundInLakeError: no such suite was frozen.
        UsageError: two of these suites hold the same version of a case.
    """
    rows = lake.records("eval_cases", EvalCase, flow=flow)
    latest = _latest(rows)
    active = [case for case in latest.values() if case.status == "active" and (suites is None or case.suite in suites)]
    for name in filter(is_frozen, suites or ()):
        active += frozen_cases(lake, flow, name, rows, latest)
    if len({(case.case_id, case.version) for case in active}) != len(active):
        raise UsageError("a frozen suite holds cases of another one named beside it; use them one after the other")
    return sorted(active, key=lambda case: (case.suite, case.case_id))


def stored_cases(lake: Lake, flow: str) -> list[EvalCase]:
    """The latest version of every case, whatever its status, by suite and id."""
    latest = _latest(lake.records("eval_cases", EvalCase, flow=flow)).values()
    return sorted(latest, key=lambda case: (case.suite, case.case_id))


def retired(stored: Iterable[EvalCase], current: Iterable[EvalCase], suite: str) -> list[EvalCase]:
    """Stored cases of a suite that no longer follow from labels or failures, marked as retired."""
    wanted = {case.case_id for case in current}
    gone = (case for case in stored if case.suite == suite and not case.settled and case.case_id not in wanted)
    return [_withdrawn(case) for case in gone]


def unusable(stored: Iterable[EvalCase], denied: Collection[str]) -> list[EvalCase]:
    """Stored cases made from traffic that may no longer be judged with, marked as retired.

    That a person retired a case says nothing about consent: frozen suites go on serving such a case, until this.

    Args:
        stored: cases of any suite, those included that a person settled, active or retired.
        denied: ids of inferences without consent, or of which no longer holds what the case says.
    """
    gone = (case for case in stored if case.inference_id in denied)
    return [_withdrawn(case) for case in gone if case.status != "retired" or case.settled]


def _from_labels(
    labels: Iterable[Label],
    inferences: Mapping[str, Inference],
    *,
    suite: str,
    drawn: Literal["random", "curated"],
    slicer: Slicer | None,
) -> list[EvalCase]:
    origin = "random" if drawn == "random" else "golden"
    usable = [label for label in labels if label.split == "gate"]
    members = {label.inference_id for label in usable if label.origin == drawn and question_of(label) == "judge"}
    cases = []
    for inference_id, label in sorted(latest_per_inference(usable).items()):
        row = inferences.get(inference_id) if inference_id in members else None
        expected = _expected(label, row) if row else None
        if row is not None and expected is not None:
            cases.append(_case(row, expected, suite, origin, reviewer=label.annotator, slicer=slicer))
    return cases


def _expected(label: Label, row: Inference) -> str | None:
    """The right answer by this label; None where it says none (a rejection, a rating, a comparison)."""
    answer = served(row)
    return None if answer is None else expected_answer(label, answer)


def _case(
    row: Inference,
    expected: str,
    suite: str,
    origin: Literal["random", "failure", "golden"],
    *,
    reviewer: str | None,
    slicer: Slicer | None,
) -> EvalCase:
    return EvalCase(
        case_id=case_id(row, suite),
        flow=row.flow,
        suite=suite,
        messages=row.messages,
        check=check_for(expected),
        origin=origin,
        inference_id=row.inference_id,
        session_id=row.session_id,
        subject=row.subject,
        slice=(slicer or slice_of)(row, expected),
        slices=slices_of(row),
        reviewer=reviewer,
    )


def _withdrawn(case: EvalCase) -> EvalCase:
    """Retired by what it was made from, not by a person: when that is there again, the case can return."""
    return case.model_copy(update={"status": "retired", "settled": False})


def _latest(cases: Iterable[EvalCase]) -> dict[str, EvalCase]:
    return {case.case_id: case for case in sorted(cases, key=lambda case: case.version)}


def _retired_by_people(rows: Iterable[EvalCase]) -> set[str]:
    """Cases about which a person's last word was to retire them, whatever consent did to them since."""
    return {
        case_id for case_id, case in _latest(row for row in rows if row.settled).items() if case.status == "retired"
    }


def _versioned(case: EvalCase, stored: EvalCase | None, *, closed: bool) -> EvalCase | None:
    """The row to append for ``case``: None when the stored one says the same, or a person settled it.

    What can be made again since consent came back stays retired where (``closed``) a person had retired it.
    """
    if stored is None:
        return case
    if not case.settled and case.status != "retired" and (stored.settled or closed):
        return None if stored.settled else stored.model_copy(update={"settled": True, "version": stored.version + 1})
    same = {"version": stored.version, "reviewer": stored.reviewer}
    if case.status == stored.status == "active":  # these order proposals; answers to an active case stay comparable
        same |= {"cluster": stored.cluster, "priority": stored.priority}
    return None if case.model_copy(update=same) == stored else case.model_copy(update={"version": stored.version + 1})
