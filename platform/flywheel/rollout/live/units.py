"""When does a session's contribution stop changing? Pure.

A confidence sequence keeps its promise at every look only for units that do not change any more. So a unit is the
first few requests of a session, and it counts once it is fixed: when so many came, or when nothing came for
``settle_s``. What the same session does later changes nothing, until it has been silent for ``idle_s``: then it is
another unit. All of this is decided by the times of the requests. How the rows were cut into batches does not matter,
as long as no row is stored later than ``late_s`` after its time; one that is counts nowhere if its unit was fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from flywheel.config import LiveQualityConfig


@dataclass(slots=True)
class Row:
    """One request, as far as it was measured. ``scores`` stays None while its pair has not come."""

    ts: float
    """seconds since the epoch"""
    id: str
    slices: list[str] = field(default_factory=list[str])
    scores: dict[str, float] | None = None
    """instrument -> difference in [-1, 1]; an instrument that did not measure it is not there"""
    failed: bool = False
    log_latency: float | None = None
    """log(candidate / live); infinite: timed out"""
    log_tokens: float | None = None
    weight: float = 1.0
    """canary: signed inverse propensity, scaled; 0: this request was neither arm's"""


class Unit(NamedTuple):
    """Requests that count as one, and when that was settled."""

    key: str
    at: float
    rows: list[Row]


@dataclass
class Units:
    """Requests on their way into units."""

    rules: LiveQualityConfig
    for_ever: bool = False
    """A unit is one for good, however long it pauses: the users of a canary."""
    rows: dict[str, dict[str, Row]] = field(default_factory=dict[str, dict[str, Row]])
    fixed: dict[str, float] = field(default_factory=dict[str, float])
    """Key -> time of the latest request of a unit that counts already."""

    def row(self, key: str, identity: str, ts: float) -> Row:
        """The request of that id; made when it is first heard of. Tell it what is known."""
        rows = self.rows.setdefault(key, {})
        return rows.setdefault(identity, Row(ts, identity))

    def drop(self, which: Callable[[Row], bool]) -> None:
        """Forget requests."""
        kept = {key: {row.id: row for row in rows.values() if not which(row)} for key, rows in self.rows.items()}
        self.rows = {key: rows for key, rows in kept.items() if rows}

    def settle(self, upto: float) -> list[Unit]:
        """Units that are fixed by ``upto``, in the order in which they were, and forget what is over.

        Args:
            upto: seconds since the epoch; all requests until then are known.
        """
        found: list[Unit] = []
        for key in list(self.rows):
            found += self._settled(key, upto)
        if not self.for_ever:
            idle = self.rules.idle_s
            self.fixed = {key: last for key, last in self.fixed.items() if last + idle >= upto}
        return sorted(found, key=lambda unit: (unit.at, unit.key))

    def _settled(self, key: str, upto: float) -> list[Unit]:
        left = sorted(self.rows.pop(key).values(), key=lambda row: (row.ts, row.id))
        found: list[Unit] = []
        while left:
            left = self._without_old(key, left)
            head = self._head(left)
            if not head or (at := self._fixed_at(head)) > upto:
                break
            found.append(Unit(key, at, head))
            self.fixed[key] = head[-1].ts
            left = left[len(head) :]
        if left:
            self.rows[key] = {row.id: row for row in left}
        return found

    def _without_old(self, key: str, rows: list[Row]) -> list[Row]:
        """Without what belongs to a unit that counts already. A request that is still to come can only add to that."""
        last = self.fixed.get(key)
        if last is None:
            return rows
        for place, row in enumerate(rows):
            if not self.for_ever and row.ts > last + self.rules.idle_s:
                return rows[place:]
            last = self.fixed[key] = max(last, row.ts)
        return []

    def _head(self, rows: list[Row]) -> list[Row]:
        """The first requests, up to a pause or the number that counts."""
        head: list[Row] = []
        for row in rows[: self.rules.pairs_per_unit]:
            if head and row.ts > head[-1].ts + self.rules.settle_s:
                break
            head.append(row)
        return head

    def _fixed_at(self, head: list[Row]) -> float:
        full = len(head) == self.rules.pairs_per_unit
        return head[-1].ts if full else head[-1].ts + self.rules.settle_s

    def dump(self) -> dict[str, Any]:
        """As JSON can hold it: no text of anybody."""
        rows = {
            key: [
                [row.ts, row.id, row.slices, row.scores, row.failed, row.log_latency, row.log_tokens, row.weight]
                for row in rows.values()
            ]
            for key, rows in self.rows.items()
        }
        return {"rows": rows, "fixed": self.fixed}

    def restore(self, stored: Mapping[str, Any]) -> None:
        """What ``dump`` gave."""
        self.rows = {key: {values[1]: Row(*values) for values in rows} for key, rows in stored["rows"].items()}
        self.fixed = dict(stored["fixed"])
