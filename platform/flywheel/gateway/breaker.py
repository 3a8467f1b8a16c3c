"""Keeps requests away from a canary that keeps failing although its engine says it is ready. One per replica."""

from __future__ import annotations

import time
from collections.abc import Callable

FAILURES = 3
"""In a row, before it is left alone."""
FIRST_PAUSE_S, LAST_PAUSE_S = 1.0, 300.0


class Breaker:
    """Opens after ``FAILURES`` in a row, for twice as long each time; one success closes it.

    After a pause requests try again: each that fails is answered by the live model, as before, and opens it at once.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: dict[str, int] = {}
        self._until: dict[str, float] = {}

    def closed(self, version: str) -> bool:
        """Whether requests may go to ``version``."""
        return self._until.get(version, 0.0) <= self._clock()

    def failed(self, version: str) -> None:
        """``version`` gave no answer. Failures of requests that were on their way when it opened count for nothing."""
        if not self.closed(version):
            return
        self._failures[version] = count = self._failures.get(version, 0) + 1
        if count >= FAILURES:
            pause = min(LAST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(count - FAILURES, 10))
            self._until[version] = self._clock() + pause

    def succeeded(self, version: str) -> None:
        """``version`` answered."""
        self._failures.pop(version, None)
        self._until.pop(version, None)

    def keep(self, versions: set[str]) -> None:
        """Forget all others: a version that comes back starts afresh."""
        for known in (self._failures, self._until):
            for version in known.keys() - versions:
                del known[version]
