"""What a replica says when it cannot take a request, and how it ends: nothing new, then its answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from flywheel.capture.room import REFUSED, Refusal
from flywheel.gateway.problems import ApiProblem

log = logging.getLogger(__name__)

POLL_S: Final = 0.02


def refused(refusal: Refusal) -> ApiProblem:
    """What a client is told when its request could not be recorded; it is counted."""
    REFUSED.labels(refusal.reason).inc()
    kind = "rate_limit_error" if refusal.status == 429 else "server_error"
    return ApiProblem(
        refusal.status, refusal.message, kind, code=f"capture_{refusal.reason}", retry_after=refusal.retry_after
    )


def shutting_down() -> ApiProblem:
    """503: this replica ends; another one answers."""
    return ApiProblem(
        503, "this replica stops; send the request again", "server_error", code="shutting_down", retry_after=1
    )


async def drained(active: Callable[[], int], timeout_s: float) -> int:
    """Wait until nothing is being answered; how much still was after ``timeout_s``."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while active():
                await asyncio.sleep(POLL_S)
    left = active()
    if left:
        log.warning("%d answers were not finished within %g s; they are recorded as interrupted", left, timeout_s)
    return left
