"""Counters of what came of requests: kept by gateways, told to the controller, added up there. Pure.

A tally only grows while its process lives, so a report that is lost or comes twice costs nothing: the next one says it
all. Times are counted in buckets that are a factor of 2^(1/2) apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

FIRST_MS: Final = 1.0
BUCKETS: Final = 40
"""The last one holds everything from some twelve minutes on."""
CONTENT: Final = ("refusal", "personal", "obedience")
"""What is found by reading an answer; of those that were read (``checked``)."""


def comparison(version: str, share: float) -> str:
    """The name of a canary's comparison with the live model while it has that share.

    Counts of two shares never mix: an outage at one of them would look like the canary's fault in the sum.
    """
    return f"{version}@{share:.6f}"


def bucket_of(milliseconds: float) -> int:
    """The bucket of a time; times in bucket b are below ``edge_ms(b + 1)``."""
    if milliseconds <= FIRST_MS:
        return 0
    return min(BUCKETS - 1, int(2 * math.log2(milliseconds / FIRST_MS)))


def edge_ms(bucket: int) -> float:
    """The lower edge of a bucket."""
    return FIRST_MS * 2 ** (bucket / 2)


@dataclass
class Tally:
    """What came of the requests that were drawn for one version.

    Attributes:
        requests: finished in any way, also by the client.
        error: of them, without a whole answer of this version.
        empty: of them, answered with neither text nor a tool call.
        checked: answers that were read for what follows.
        found: of those, by what was found.
        times: requests with an end, by bucket of their time.
    """

    requests: int = 0
    error: int = 0
    empty: int = 0
    checked: int = 0
    found: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CONTENT, 0))
    times: list[int] = field(default_factory=lambda: [0] * BUCKETS)

    def add(self, other: Tally) -> None:
        """Count what ``other`` counted, too."""
        self.requests += other.requests
        self.error += other.error
        self.empty += other.empty
        self.checked += other.checked
        for name in CONTENT:
            self.found[name] += other.found[name]
        self.times = [mine + more for mine, more in zip(self.times, other.times, strict=True)]

    def since(self, before: Tally | None) -> Tally:
        """What was counted after ``before``, an earlier state of the same tally."""
        if before is None:
            return Tally.read(self.told())
        return Tally(
            requests=self.requests - before.requests,
            error=self.error - before.error,
            empty=self.empty - before.empty,
            checked=self.checked - before.checked,
            found={name: self.found[name] - before.found[name] for name in CONTENT},
            times=[now - then for now, then in zip(self.times, before.times, strict=True)],
        )

    def hits(self, name: str) -> tuple[int, int]:
        """(requests that could, requests that did) of one kind of failure."""
        if name in CONTENT:
            return self.checked, self.found[name]
        return self.requests, self.error if name == "error" else self.empty

    def told(self) -> dict[str, Any]:
        """As plain values, for a report."""
        return {
            "requests": self.requests, "error": self.error, "empty": self.empty, "checked": self.checked,
            "found": dict(self.found), "times": list(self.times),
        }  # fmt: skip

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Tally:
        """What ``told`` gave; kinds that this version does not know are passed over.

        Raises:
            ValueError: that is no tally.
        """
        try:
            counts = {name: int(told[name]) for name in ("requests", "error", "empty", "checked")}
            found = {name: int(told["found"].get(name, 0)) for name in CONTENT}
            times = [int(count) for count in told["times"]]
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a tally: {error!r}") from error
        if len(times) != BUCKETS or min(*counts.values(), *found.values(), *times) < 0:
            raise ValueError("not a tally: negative counts, or other buckets")
        return cls(**counts, found=found, times=times)
