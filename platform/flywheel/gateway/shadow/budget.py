"""A budget per minute: a token bucket that refuses instead of making anybody wait. Pure; the caller has the clock."""

from __future__ import annotations


class Bucket:
    """Holds at most one minute's budget and fills evenly.

    A request is charged with what it may cost before it is queued, and the difference is given back when its true
    cost is known. The level may fall below zero by one request, which then is waited off: else a budget smaller
    than the largest request would refuse that request for ever.
    """

    def __init__(self, per_minute: float | None) -> None:
        """``per_minute``: units a minute; None: unbounded."""
        self._per_minute = per_minute
        self._level = per_minute or 0.0
        self._at: float | None = None

    def resize(self, per_minute: float | None) -> None:
        """Another budget from now on; a smaller one takes effect at once."""
        if per_minute != self._per_minute:
            self._level = per_minute or 0.0 if self._per_minute is None else min(self._level, per_minute or 0.0)
            self._per_minute = per_minute

    def take(self, cost: float, now: float) -> bool:
        """Charge ``cost`` at ``now`` (monotonic seconds). False: the budget is used up, nothing was charged."""
        if self._per_minute is None:
            return True
        self._fill(now, self._per_minute)
        if self._level < min(cost, self._per_minute):
            return False
        self._level -= cost
        return True

    def give_back(self, cost: float) -> None:
        """Correct an earlier charge: positive when it was too high, negative when too low."""
        if self._per_minute is not None:
            self._level = min(self._per_minute, self._level + cost)

    def _fill(self, now: float, per_minute: float) -> None:
        if self._at is not None:
            self._level = min(per_minute, self._level + max(0.0, now - self._at) * per_minute / 60)
        self._at = now
