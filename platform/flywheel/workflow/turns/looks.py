"""Looking again at the same candidate, on the cases as they are now (``evaluation.interval: sequence``).

A turn whose verdict is "continue" stays open. Its next run grows the random sample by what was labelled since and
asks both models what is new; results of earlier looks are in the lake. Each look is kept beside the turn's artifacts
under the name of its set of cases, which is the last entry of a verdict's evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from flywheel.evaluation.cases import load_cases
from flywheel.lake.manifests import content_id
from flywheel.workflow.turns.context import Context
from flywheel.workflow.turns.prepare import grow_random_suite
from flywheel.workflow.turns.steps import Artifact, TurnHandle


def cases_id(cases: Iterable[tuple[str, int]]) -> str:
    """Identity of a set of cases, each an id and a version."""
    return content_id("cases", sorted(set(cases)))


def latest_look(context: Context, first: Artifact, evaluate: Callable[[], Artifact]) -> Artifact:
    """The results to decide on: those of the step ``evaluate``, or of more cases where looking again is sound.

    Args:
        context: the turn's surroundings.
        first: the artifact of the step.
        evaluate: does that step again.
    """
    if context.config.evaluation.interval != "sequence":
        return first
    grow_random_suite(context)
    now = load_cases(context.lake, context.config.flow, context.config.decisive_suites())
    identity = cases_id((case.case_id, case.version) for case in now)
    if identity == first["cases"]:
        return first
    stored = context.turn.read(identity)
    return stored if stored is not None else context.turn.write(identity, evaluate())


def looks(turn: TurnHandle) -> list[str]:
    """Object keys of a turn's later looks."""
    return [key for key in turn.store.list(f"turns/{turn.flow}/{turn.turn_id}") if "/cases-" in key]


def read_look(turn: TurnHandle, evidence: Sequence[str]) -> Artifact | None:
    """The results that a verdict rests on, where they are not those of the turn's own step."""
    return turn.read(evidence[-1]) if evidence else None
