"""The suite ``regression``: what earlier live models got right, as a guard against forgetting. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from flywheel.config import RegressionConfig
from flywheel.evaluation.lifecycle import passes
from flywheel.lake.manifests import content_id
from flywheel.records import EvalCase, EvalResult
from flywheel.text.hashing import unit_interval

SUITE: Final = "regression"
_NOT_FROM: Final = frozenset({SUITE, "safety"})


def regression_suite(
    cases: Iterable[EvalCase],
    results: Iterable[EvalResult],
    lived: Collection[str],
    *,
    policy: RegressionConfig,
    seed: int,
) -> list[EvalCase]:
    """Copies of active cases that enough of the models that were live passed.

    Which of them is drawn by a seeded hash of the case, so that the draw is the same in every turn and says nothing
    about the model. Cases that are in it already come first: the suite changes as little as it can.

    Args:
        cases: the latest version of every case, those of this suite included.
        results: marks of any model.
        lived: versions that are or were live.
        policy: how many models, how many cases.
        seed: the flow's seed.
    """
    stored = list(cases)
    there = {case.case_id for case in stored if case.suite == SUITE and case.status == "active"}
    passed = passes(results)

    def right(case: EvalCase) -> int:
        marks = passed.get((case.case_id, case.version), {})
        return sum(mark for model, mark in marks.items() if model in lived)

    sources = [case for case in stored if case.status == "active" and case.suite not in _NOT_FROM]
    copies = [_copy(case) for case in sources if right(case) >= policy.models or _copy(case).case_id in there]
    return sorted(copies, key=lambda case: _place(case, there, seed))[: policy.max_cases]


def unmade(
    cases: Iterable[EvalCase], results: Iterable[EvalResult], lived: Collection[str], *, policy: RegressionConfig
) -> str | None:
    """Why the suite has no case yet; None where it has some, or had some and lost them.

    A flow whose second model is not live yet has nothing to forget: there an empty suite is no missing measurement.
    A suite that ever had a case, or was ever answered, is empty because something took its cases.
    """
    if any(case.suite == SUITE for case in cases) or any(row.suite == SUITE for row in results):
        return None
    if len(lived) < policy.models:
        return (
            f"{len(lived)} model(s) of this flow were live so far, and its cases are those that {policy.models} passed"
        )
    return f"no case was passed by {policy.models} models that were live"


def _copy(case: EvalCase) -> EvalCase:
    return case.model_copy(
        update={
            "case_id": content_id("case", case.flow, SUITE, case.case_id),
            "suite": SUITE,
            "origin": "regression",
            "version": 1,
            "cluster": None,
            "priority": None,
            "settled": False,
        }
    )


def _place(case: EvalCase, there: Collection[str], seed: int) -> tuple[bool, float, str]:
    return case.case_id not in there, unit_interval("regression", str(seed), case.case_id), case.case_id
