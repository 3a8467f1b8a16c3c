"""One candidate in the shadow: requests it was to answer and pairs it brought, on their way into the tally.

Requests count from its first sign of life on. Before, its engine was starting, which takes a large model minutes: that
is no failure to answer, and an engine that never starts is found by who places engines.

The time of a request is the end of its live answer, when its copy is sent: a slow live model must not take the time in
which the candidate may answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from flywheel.config import GatePolicy, LiveQualityConfig
from flywheel.records import Inference, ShadowPair
from flywheel.rollout.live.asked import ended, unit_of
from flywheel.rollout.live.instrument import Instrument
from flywheel.rollout.live.slices import groups
from flywheel.rollout.live.tally import Tally
from flywheel.rollout.live.units import Units


class ShadowBook:
    """Rows in any order and any batches; ``settle`` moves what is fixed into the tally."""

    def __init__(self, rules: LiveQualityConfig, policy: GatePolicy, *, budgeted: bool = False) -> None:
        """``budgeted``: requests without a pair may have been dropped for want of budget, and count for nothing."""
        self.rules, self._budgeted = rules, budgeted
        self.units = Units(rules)
        self.tally = Tally(rules, policy, "shadow")
        self._alive = math.inf
        """Time of the first request that its engine did anything with, a failure too."""

    def asked(self, row: Inference) -> None:
        """The candidate was to answer this request."""
        kept = self.units.row(unit_of(row, self.rules), row.inference_id, ended(row))
        kept.slices = groups(self.rules, row.tags, messages=row.messages, tenant=row.tenant)

    def counts_still(self, pair: ShadowPair) -> bool:
        """Whether it can change anything: its unit is not fixed, or was so long ago that this begins another."""
        last = self.units.fixed.get(unit_of(pair, self.rules))
        return last is None or ended(pair) > last + self.rules.idle_s

    def brought(self, pair: ShadowPair, scores: Mapping[str, float]) -> None:
        """It brought this pair; ``scores`` by instrument. A pair that is told twice counts once."""
        kept = self.units.row(unit_of(pair, self.rules), pair.inference_id, ended(pair))
        if pair.error_kind != "unavailable":
            self._alive = min(self._alive, ended(pair))
        kept.scores, kept.failed = dict(scores), lacks_answer(pair)
        kept.log_latency, kept.log_tokens = _latency(pair), _tokens(pair)
        kept.slices = kept.slices or groups(self.rules, pair.tags)

    def settle(self, now: float) -> None:
        """Count what cannot change any more at ``now`` (seconds since the epoch)."""
        upto = now - self.rules.late_s
        self.units.drop(lambda row: row.ts <= upto and row.ts < self._alive)
        if self._budgeted:
            self.units.drop(lambda row: row.scores is None and row.ts <= upto)
        self.tally.add(self.units.settle(upto))

    def dump(self) -> dict[str, Any]:
        """As JSON can hold it."""
        alive = self._alive if math.isfinite(self._alive) else None
        return {"units": self.units.dump(), "tally": self.tally.dump(), "alive": alive}

    def restore(self, stored: Mapping[str, Any]) -> None:
        """What ``dump`` gave."""
        self.units.restore(stored["units"])
        self.tally.restore(stored["tally"])
        self._alive = math.inf if stored["alive"] is None else stored["alive"]


def lacks_answer(pair: ShadowPair) -> bool:
    """The candidate failed; that counts as the worst difference for every instrument."""
    return pair.candidate_answer is None or pair.error is not None or pair.error_kind is not None


def worst(instruments: Sequence[Instrument]) -> dict[str, float]:
    """The scores of a pair without an answer."""
    return {one.name: -1.0 for one in instruments if one.score is not None}


def _latency(pair: ShadowPair) -> float | None:
    if pair.error_kind == "timeout":
        return math.inf
    if lacks_answer(pair) or not pair.live_latency_ms or not pair.candidate_latency_ms:
        return None
    return math.log(pair.candidate_latency_ms / pair.live_latency_ms)


def _tokens(pair: ShadowPair) -> float | None:
    live = (pair.live_prompt_tokens or 0) + (pair.live_tokens or 0)
    own = (pair.candidate_prompt_tokens or 0) + (pair.candidate_tokens or 0)
    known = pair.live_tokens is not None and pair.candidate_tokens is not None
    return math.log(own / live) if known and not lacks_answer(pair) and live > 0 and own > 0 else None
