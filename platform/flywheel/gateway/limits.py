"""Limits of one key: requests and tokens a minute, as token buckets. Pure but for the clock.

The known libraries do not fit: a generation's tokens are known only after the answer, so a bucket must be able to go
below zero and refuse until it is paid back. ``aiolimiter`` waits instead of refusing, ``limits`` counts windows;
neither knows debt. What is needed is twenty lines of arithmetic.

Each replica of the gateway keeps its own buckets with its share (1/N) of rate and burst, so that no request waits for a
shared counter; the ingress spreads requests evenly.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal

from flywheel.gateway.keys import ApiKey
from flywheel.gateway.problems import ApiProblem

Clock = Callable[[], float]
MINUTE_S: Final = 60.0
BURST_SHARE: Final = 1 / 6
"""Of a minute's requests that may come at once where the key does not say: ten seconds' worth."""
CHARS_PER_TOKEN: Final = 4
"""For answers whose usage was never told, because the client left: a common rule of thumb for English."""


class Bucket:
    """Fills with ``per_minute`` up to ``capacity``; what is taken may make it negative."""

    def __init__(self, per_minute: float, capacity: float, clock: Clock = time.monotonic) -> None:
        self._rate, self._capacity, self._clock = per_minute / MINUTE_S, capacity, clock
        self._level, self._at = capacity, clock()

    def wait_s(self, amount: float) -> float:
        """Seconds until ``amount`` is there; 0: now."""
        self._fill()
        missing = amount - self._level
        return missing / self._rate if missing > 1e-9 else 0.0  # rounding must not cost a second

    def take(self, amount: float) -> None:
        """Take ``amount``, there or not."""
        self._fill()
        self._level -= amount

    def _fill(self) -> None:
        now = self._clock()
        self._level = min(self._capacity, self._level + (now - self._at) * self._rate)
        self._at = now


class Meter:
    """What one key has left at this replica."""

    def __init__(self, key: ApiKey, replicas: int = 1, clock: Clock = time.monotonic) -> None:
        self.key_id, self.terms = key.id, terms(key)
        self._requests: Bucket | None = None
        self._tokens: Bucket | None = None
        if key.requests_per_minute is not None:
            burst = key.burst or max(1, math.floor(key.requests_per_minute * BURST_SHARE))
            self._requests = Bucket(key.requests_per_minute / replicas, max(1.0, burst / replicas), clock)
        if key.tokens_per_minute is not None:
            share = key.tokens_per_minute / replicas
            self._tokens = Bucket(share, max(1.0, share), clock)

    def admit(self, *, generates: bool) -> None:
        """Count one request.

        Raises:
            ApiProblem: 429; a refused request is not counted, so that whoever keeps asking is not locked out for ever.
        """
        if generates and self._tokens and (wait := self._tokens.wait_s(1)):
            raise _exhausted(self.key_id, "tokens", wait)
        if self._requests:
            if wait := self._requests.wait_s(1):
                raise _exhausted(self.key_id, "requests", wait)
            self._requests.take(1)

    def charge(self, tokens: int) -> None:
        """An answer used ``tokens``; a budget that is overdrawn refuses until the minutes have paid it back."""
        if self._tokens:
            self._tokens.take(tokens)


class Meters:
    """The meters of all keys, kept when the keys are read again."""

    def __init__(self, replicas: int = 1, clock: Clock = time.monotonic) -> None:
        self._replicas, self._clock = replicas, clock
        self._meters: dict[str, Meter] = {}

    def follow(self, keys: Iterable[ApiKey]) -> None:
        """Take over ``keys``: a key whose limits did not change goes on with what it has left."""
        held, self._meters = self._meters, {}
        for key in keys:
            old = held.get(key.id)
            same = old is not None and old.terms == terms(key)
            self._meters[key.id] = old if old is not None and same else Meter(key, self._replicas, self._clock)

    def of(self, key_id: str) -> Meter | None:
        """The meter of a key."""
        return self._meters.get(key_id)


def terms(key: ApiKey) -> tuple[Any, ...]:
    """What a key's limits are."""
    return key.requests_per_minute, key.burst, key.tokens_per_minute


def tokens_of(
    prompt_tokens: int | None, completion_tokens: int | None, *, asked_chars: int, answered_chars: int
) -> int:
    """Tokens of one request: as the engine counted them, else estimated from the characters, never nothing."""
    prompt = prompt_tokens if prompt_tokens is not None else math.ceil(asked_chars / CHARS_PER_TOKEN)
    answer = completion_tokens if completion_tokens is not None else math.ceil(answered_chars / CHARS_PER_TOKEN)
    return max(1, prompt + answer)


def _exhausted(key_id: str, what: Literal["requests", "tokens"], wait_s: float) -> ApiProblem:
    seconds = max(1, math.ceil(wait_s))
    return ApiProblem(
        429,
        f"the limit of {what} a minute of {key_id} is used up; try again in {seconds} s",
        what,
        code="rate_limit_exceeded",
        retry_after=seconds,
    )
