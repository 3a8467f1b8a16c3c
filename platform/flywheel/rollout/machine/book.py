"""What gateways told: reports of any number of replicas, added up by comparison. In memory only, and that is enough.

A replica tells its totals and a number that grows, and what was added since its last report is counted: nothing twice,
and a replica that restarts is a new one. A controller that starts in the middle counts a comparison's totals as they
are: they are of this canary with this share, so what went wrong while no controller was there is known to it at once
(a canary that fails is hardly asked any more by then). Totals of the live model alone begin with its first report.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from flywheel.rollout.machine.tally import Tally

log = logging.getLogger(__name__)

Pair = tuple[str, str]
"""(``tally.comparison`` that the request is part of, version it was drawn for); "" for all of the live model."""
FORGET: Final = timedelta(days=1)
"""A replica that is silent for so long is gone; one that was forgotten too soon would be counted twice."""


@dataclass
class Replica:
    """The last report of one gateway replica."""

    seq: int
    at: datetime
    totals: dict[Pair, Tally] = field(default_factory=dict[Pair, Tally])
    ready: frozenset[str] = frozenset()


class Book:
    """Adds up reports; ``since_last`` gives what came since it was asked before."""

    def __init__(self) -> None:
        self._replicas: dict[str, Replica] = {}
        self._new: dict[Pair, Tally] = defaultdict(Tally)
        self.reported: datetime | None = None

    def take(self, report: Mapping[str, Any], now: datetime) -> None:
        """Count a report. One that cannot be read, or is older than one that was, is passed over."""
        try:
            name, seq, totals = str(report["replica"]), int(report["seq"]), _totals(report["tallies"])
            ready = frozenset(str(version) for version in report["ready"])
        except (KeyError, TypeError, ValueError) as error:
            log.warning("a gateway's report cannot be read: %s", error)
            return
        known = self._replicas.get(name)
        if known is not None and seq <= known.seq:
            return
        before = known.totals if known is not None else _before(seq, totals)
        for pair, total in totals.items():
            self._new[pair].add(total.since(before.get(pair)))
        self._replicas[name] = Replica(seq, now, totals, ready)
        self.reported = now

    def since_last(self) -> dict[Pair, Tally]:
        """What was told since the last call."""
        told, self._new = self._new, defaultdict(Tally)
        return told

    def ready(self, version: str, now: datetime, within: timedelta) -> bool | None:
        """Whether its engine answers a replica that was heard lately; None: no replica was."""
        heard = [replica for replica in self._replicas.values() if now - replica.at <= within]
        for name in [name for name, replica in self._replicas.items() if now - replica.at > FORGET]:
            del self._replicas[name]
        return any(version in replica.ready for replica in heard) if heard else None


def _before(seq: int, totals: dict[Pair, Tally]) -> dict[Pair, Tally]:
    """What of a replica that is heard for the first time is not to be counted."""
    return {} if seq == 1 else {pair: total for pair, total in totals.items() if not pair[0]}


def _totals(told: Any) -> dict[Pair, Tally]:
    return {(str(one["about"]), str(one["version"])): Tally.read(one) for one in told}
