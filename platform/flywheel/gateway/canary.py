"""A request's answer, whoever was assigned: when a canary gives none, the live model does, unseen by the user.

That ends with the first byte sent: a canary whose stream breaks later has broken it for the user, as the live model
would have. Whatever the canary did counts as its failure, a refusal too: the live model, asked next, says whether it
was the request's fault.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from flywheel.gateway import metrics
from flywheel.gateway.asked import Asked
from flywheel.gateway.assign import Assignment
from flywheel.gateway.chat import Answering, Stream, streamed, whole
from flywheel.gateway.problems import ApiProblem

log = logging.getLogger(__name__)
NOT_RECORDED = "not_recorded"


async def answered(
    service: Answering, asked: Asked, assignment: Assignment, canary_timeout_s: float
) -> dict[str, Any] | Stream:
    """The answer of the assigned model, or the live one's.

    Raises:
        ApiProblem: the live model gave none either, or the answer is not durable.
    """
    metrics.ASSIGNED.labels(_assigned(assignment), assignment.how).inc()
    if not assignment.may_fall_back:
        return await _ask(service, asked, assignment)
    breaker, version = service.router.breaker, assignment.variant.version
    try:
        hurried = replace(service, first_s=min(service.first_s, canary_timeout_s))
        answer = await _ask(hurried, asked, assignment)
    except ApiProblem as problem:
        if problem.code == NOT_RECORDED:  # the disk is ours: another model would not help
            raise
        reason, refused = problem.code or f"status_{problem.status}", problem.status < 500
    except Exception as error:  # an answer that cannot be read must not reach the user as our fault
        log.exception("the canary %s gave no answer that can be read", version)
        reason, refused = type(error).__name__, False
    else:
        if not isinstance(answer, Stream):  # a stream tells at its end
            breaker.succeeded(version)
        return answer
    return await _live(service, asked, assignment, reason=reason, refused=refused)


async def _live(
    service: Answering, asked: Asked, assignment: Assignment, *, reason: str, refused: bool
) -> dict[str, Any] | Stream:
    """Ask the live model. Only its answer shows that a refusal was the canary's failure and not the request's."""
    version = assignment.variant.version
    if reason == "engine_unavailable":
        service.router.lost(version)
    if not refused:
        service.router.breaker.failed(version)
        service.outcomes.failed(assignment)
    answer = await _ask(service, asked, assignment.fallen_back(reason))
    if refused:
        service.router.breaker.failed(version)
        service.outcomes.failed(assignment)
    metrics.FALLBACKS.labels(version, reason).inc()
    return answer


async def _ask(service: Answering, asked: Asked, assignment: Assignment) -> dict[str, Any] | Stream:
    return await (streamed if asked.stream else whole)(service, asked, assignment)


def _assigned(assignment: Assignment) -> str:
    return assignment.fallback.assigned if assignment.fallback else assignment.variant.version
