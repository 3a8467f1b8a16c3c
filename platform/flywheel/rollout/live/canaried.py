"""One canary: what users do after answers of either model, compared by user without bias by who got which. Pure.

Assignment is by a keyed hash of the user, so it is random with a known chance. A user's outcome Y in [-1, 1], weighted

    Z = Y / p  if the candidate was drawn (chance p),   -Y / q  if the live model was (chance q),   0 otherwise

has the difference of the two models' mean outcomes as its mean, whatever the share, and while the share changes
(Horvitz and Thompson, JASA 47 (1952)). Users are drawn independently, so the Z are units of a confidence sequence, once
scaled by the smallest share that counts. Y is 0 for a user who said nothing: leaving the silent out would compare those
who were moved to react, and a model that silences people would win. For the same reason a request that a model failed
is that model's, as its worst outcome, also where the live model answered for the canary: an outage of both is nobody's
loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from flywheel.config import GatePolicy, LiveQualityConfig
from flywheel.records import Feedback, Inference
from flywheel.rollout.live.instrument import Instrument
from flywheel.rollout.live.slices import groups
from flywheel.rollout.live.tally import Tally
from flywheel.rollout.live.units import Row, Units

REACTIONS: Final = Instrument(name="reactions", version="1", knows="meaning", cost="free", score=lambda _: [])
"""Stands for people in the verdict on a canary: thumbs, ratings, corrections and questions asked again."""
_ROUNDING: Final = 1e-9
_BAD: Final = frozenset({"correction", "reprompt"})


class CanaryBook:
    """Rows in any order and any batches; ``settle`` moves what is fixed into the tally."""

    def __init__(
        self,
        rules: LiveQualityConfig,
        policy: GatePolicy,
        *,
        candidate: str,
        live: str,
        patience_s: float = math.inf,
    ) -> None:
        """``patience_s``: a canary that is slower is given up, so the live model beside it has failed then, too."""
        self.rules, self._candidate, self._live, self._patience_s = rules, candidate, live, patience_s
        self.units = Units(rules, for_ever=True)
        self.tally = Tally(rules, policy, "canary")
        self.reactions: dict[str, list[tuple[float, str, float]]] = {}
        """Inference id -> (time, kind, value) of reactions to answers that do not count yet."""

    def answered(self, row: Inference, *, share: float, live_share: float) -> None:
        """A request was drawn; the shares are those of the routing in force."""
        if row.list_log_propensity is not None:
            return  # no model makes a ranked list
        key, signed = (row.assignment_key_hash or "")[:16], self._signed(row)
        if not key or signed is None or min(share, live_share) < self.rules.min_propensity - _ROUNDING:
            return  # decided before the draw, so it leaves no bias
        if key not in self.units.fixed and len(self.units.fixed) + len(self.units.rows) >= self.rules.max_units:
            return
        kept = self.units.row(key, row.inference_id, row.ts.timestamp())
        kept.weight = max(-1.0, min(1.0, signed * self.rules.min_propensity))
        kept.failed = self._failed(row)  # of either arm, by the weight's sign
        kept.slices = groups(self.rules, row.tags, messages=row.messages, tenant=row.tenant)

    def reacted(self, said: Feedback) -> None:
        """Somebody reacted to an answer."""
        value = reaction(said)
        if value is not None:
            self.reactions.setdefault(said.inference_id, []).append((said.ts.timestamp(), said.kind, value))

    def settle(self, now: float) -> None:
        """Count what cannot change any more at ``now`` (seconds since the epoch)."""
        upto = now - self.rules.late_s - self.rules.react_s
        for rows in self.units.rows.values():
            for row in rows.values():
                row.scores = {REACTIONS.name: self._outcome(row)}
        self.tally.add(self.units.settle(upto))
        old = upto - self.rules.idle_s
        self.reactions = {name: said for name, said in self.reactions.items() if max(at for at, _, _ in said) >= old}

    def dump(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {"units": self.units.dump(), "tally": self.tally.dump(), "reactions": self.reactions}

    def restore(self, stored: Mapping[str, Any]) -> None:
        """What ``dump`` gave."""
        self.units.restore(stored["units"])
        self.tally.restore(stored["tally"])
        self.reactions = {name: [(at, kind, value) for at, kind, value in said]
                          for name, said in stored["reactions"].items()}  # fmt: skip

    def _signed(self, row: Inference) -> float | None:
        """Signed inverse propensity of the draw; None where the candidate could not have been drawn."""
        drawn, eligible, chance = row.model_version, row.eligible_variants, row.propensity
        if row.assignment == "fallback" and row.fallback is not None:
            drawn, eligible, chance = row.fallback.assigned, row.fallback.eligible, row.fallback.propensity
        elif row.assignment != "random":
            return None
        if not {self._candidate, self._live} <= set(eligible) or chance <= 0:
            return None
        return {self._candidate: 1 / chance, self._live: -1 / chance}.get(drawn, 0.0)

    def _failed(self, row: Inference) -> bool:
        waited_ms = row.latency_ms if row.ttft_ms is None else row.ttft_ms
        late = (waited_ms or 0.0) > 1e3 * self._patience_s
        return late or row.fallback is not None or row.finish_reason == "error"

    def _outcome(self, row: Row) -> float:
        if row.failed:
            return -1.0
        until = row.ts + self.rules.react_s
        latest = {kind: value for at, kind, value in sorted(self.reactions.get(row.id, [])) if at <= until}
        return sum(latest.values()) / len(latest) if latest else 0.0


def reaction(said: Feedback) -> float | None:
    """What a reaction to an answer is worth, in [-1, 1]; None for those that say nothing for or against it.

    A person's last word of a kind counts. Clicks, copies and dwell are left out: more of them may mean either.
    """
    if said.kind in _BAD:
        return -1.0
    if said.value is None or said.session_id is not None:
        return None
    if said.kind == "thumbs":
        return max(-1.0, min(1.0, said.value))
    return (said.value - 3) / 2 if said.kind == "rating" else None
