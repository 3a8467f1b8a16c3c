"""What the fixed units of one candidate add up to: a few histograms and counters, whatever the traffic. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from flywheel.config import GatePolicy, LiveQualityConfig
from flywheel.rollout.live.counts import FINE, STEPS, Counts
from flywheel.rollout.live.ratios import Ratios
from flywheel.rollout.live.result import Source
from flywheel.rollout.live.units import Row, Unit

REST: Final = "(all other groups)"


class Tally:
    """Counts units; the order matters for which groups become slices, and for nothing else."""

    def __init__(self, rules: LiveQualityConfig, policy: GatePolicy, source: Source) -> None:
        self.rules = rules
        self.source: Source = source
        self.scale = rules.min_propensity if source == "canary" else 1.0
        """What differences were multiplied with to lie in [-1, 1]."""
        self.steps = FINE if source == "canary" else STEPS
        self.units = self.rows = self.answered = self.missing = 0
        self.measured: dict[str, int] = {}
        self.overall: dict[str, Counts] = {}
        self.slices: dict[str, dict[str, Counts]] = {}
        self.failures = Counts(self.steps)
        """Shares of failed requests; of a canary beyond the live model's, weighted as its scores are."""
        self.latency = Ratios(policy.max_latency_ratio)
        self.tokens = Ratios(policy.max_token_ratio or 1.0)

    def add(self, units: Iterable[Unit]) -> None:
        """Count units, in the order in which they were fixed."""
        for unit in units:
            self._add(unit.rows)

    def _add(self, rows: Sequence[Row]) -> None:
        self.units += 1
        self.rows += len(rows)
        concerned = [row for row in rows if row.weight > 0]  # that the candidate was to answer
        lost = [row.scores is None or row.failed for row in concerned]
        self.missing += sum(lost)
        self.answered += len(lost) - sum(lost)
        failures = [row.weight * (row.scores is None or row.failed) for row in rows]
        self.failures.add(math.fsum(failures) / len(failures))
        self._scores(self.overall, rows)
        for name in dict.fromkeys(name for row in rows for name in row.slices):
            self._scores(self._slice(name), [row for row in rows if name in row.slices])
        for row in concerned:
            for instrument in (row.scores or {}) if not row.failed else {}:
                self.measured[instrument] = self.measured.get(instrument, 0) + 1
        _ratio(self.latency, [row.log_latency for row in rows])
        _ratio(self.tokens, [row.log_tokens for row in rows])

    def _scores(self, into: dict[str, Counts], rows: Sequence[Row]) -> None:
        """A unit's mean weighted score, by instrument; of an instrument that measured none of its rows, nothing."""
        names = dict.fromkeys(name for row in rows for name in row.scores or {})
        for name in names:
            scores = [row.weight * row.scores[name] for row in rows if row.scores is not None and name in row.scores]
            into.setdefault(name, Counts(self.steps)).add(math.fsum(scores) / len(scores))

    def _slice(self, name: str) -> dict[str, Counts]:
        if name not in self.slices and len(self.slices) >= self.rules.max_slices:
            name = REST
        return self.slices.setdefault(name, {})

    def dump(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "numbers": [self.units, self.rows, self.answered, self.missing],
            "measured": self.measured,
            "overall": {name: counts.dump() for name, counts in self.overall.items()},
            "slices": {
                group: {name: counts.dump() for name, counts in by_name.items()}
                for group, by_name in self.slices.items()
            },
            "failures": self.failures.dump(),
            "latency": self.latency.dump(),
            "tokens": self.tokens.dump(),
        }

    def restore(self, stored: Mapping[str, Any]) -> None:
        """What ``dump`` gave."""
        self.units, self.rows, self.answered, self.missing = stored["numbers"]
        self.measured = dict(stored["measured"])
        self.overall = {name: Counts.load(counts) for name, counts in stored["overall"].items()}
        self.slices = {
            group: {name: Counts.load(counts) for name, counts in by_name.items()}
            for group, by_name in stored["slices"].items()
        }
        self.failures = Counts.load(stored["failures"])
        self.latency, self.tokens = Ratios.load(stored["latency"]), Ratios.load(stored["tokens"])


def _ratio(into: Ratios, logs: Sequence[float | None]) -> None:
    known = [value for value in logs if value is not None]
    if known:
        into.add(sum(known) / len(known))
