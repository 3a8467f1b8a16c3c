"""A circuit breaker: a candidate that keeps failing is left alone for a while, longer each time. Pure.

Own code, because what is needed is a question asked before a request is queued and again before it is sent. The
libraries at hand (purgatory, aiobreaker) wrap the call itself, answer with an exception, wait a fixed time and read
the clock themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

FAILURES = 5
FIRST_PAUSE_S, LAST_PAUSE_S = 1.0, 60.0


@dataclass
class Breaker:
    """Closed: everything passes. Open: nothing does until ``_until``. Then one trial decides which it is again."""

    failures: int = FAILURES
    """in a row, after which it opens"""
    first_pause_s: float = FIRST_PAUSE_S
    last_pause_s: float = LAST_PAUSE_S
    _in_a_row: int = 0
    _pauses: int = 0
    _until: float | None = None
    _on_trial: bool = False

    def is_open(self, now: float) -> bool:
        """Whether a request that comes now would be refused; changes nothing."""
        return self._until is not None and (self._on_trial or now < self._until)

    def admit(self, now: float) -> bool:
        """Whether to send a request now. After a pause the first one is the trial, the others are refused."""
        if self.is_open(now):
            return False
        self._on_trial = self._until is not None
        return True

    def succeeded(self) -> None:
        """The candidate answered. What was sent before the breaker opened and answers only now counts as well."""
        self._in_a_row, self._pauses, self._until, self._on_trial = 0, 0, None, False

    def failed(self, now: float) -> None:
        """The candidate did not answer, or not with an answer."""
        if self._until is not None and not self._on_trial:
            return  # sent before it opened: known already
        self._in_a_row += 1
        if self._on_trial or self._in_a_row >= self.failures:
            pause = min(self.last_pause_s, self.first_pause_s * 2 ** min(self._pauses, 32))
            self._until, self._on_trial, self._pauses, self._in_a_row = now + pause, False, self._pauses + 1, 0

    def undecided(self) -> None:
        """The trial ended without telling anything about the candidate (cancelled): another one may try."""
        self._on_trial = False
