"""One candidate beside the live model before users who choose: what they preferred, by session. Pure.

Both answers were shown in random order and unnamed, so a user who knows nothing prefers either just as often. Requests
without a choice count for nothing: who does not choose was shown the same as who does. A person's last word on a
request counts, a tie is 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flywheel.config import GatePolicy, LiveQualityConfig
from flywheel.records import Feedback, Inference
from flywheel.rollout.live.asked import unit_of
from flywheel.rollout.live.instrument import Instrument
from flywheel.rollout.live.slices import groups
from flywheel.rollout.live.tally import Tally
from flywheel.rollout.live.units import Row, Units

CHOICES: Final = Instrument(name="choices", version="1", knows="meaning", cost="free", score=lambda _: [])
"""Stands for people who chose between two answers."""
Said = tuple[float, int, float]
"""Time, place of the answer that was rated, and 1, 0 or -1."""


class ChosenBook:
    """Rows in any order and any batches; ``settle`` moves what is fixed into the tally."""

    def __init__(self, rules: LiveQualityConfig, policy: GatePolicy, *, candidate: str, live: str) -> None:
        self.rules, self._candidate, self._live = rules, candidate, live
        self.units = Units(rules)
        self.tally = Tally(rules, policy, "side_by_side")
        self._places: dict[str, int] = {}
        """Inference id -> where the candidate's answer was shown."""
        self._said: dict[str, list[Said]] = {}

    def answered(self, row: Inference) -> None:
        """A user was shown two answers."""
        if sorted(row.choice_versions) != sorted([self._candidate, self._live]):
            return
        kept = self.units.row(unit_of(row, self.rules), row.inference_id, row.ts.timestamp())
        kept.slices = groups(self.rules, row.tags, messages=row.messages, tenant=row.tenant)
        self._places[row.inference_id] = row.choice_versions.index(self._candidate)

    def reacted(self, said: Feedback) -> None:
        """Somebody reacted to an answer."""
        if said.kind == "comparison" and said.value is not None and said.choice_index in {0, 1}:
            one = (said.ts.timestamp(), said.choice_index, max(-1.0, min(1.0, said.value)))
            self._said.setdefault(said.inference_id, []).append(one)

    def settle(self, now: float) -> None:
        """Count what cannot change any more at ``now`` (seconds since the epoch)."""
        upto = now - self.rules.late_s - self.rules.react_s
        for rows in self.units.rows.values():
            for row in rows.values():
                preferred = self._preferred(row)
                row.scores = None if preferred is None else {CHOICES.name: preferred}
        self.units.drop(lambda row: row.scores is None and row.ts <= upto)
        self.tally.add(self.units.settle(upto))
        waiting = {name for rows in self.units.rows.values() for name in rows}
        self._places = {name: place for name, place in self._places.items() if name in waiting}
        old = upto - self.rules.idle_s
        self._said = {name: said for name, said in self._said.items() if max(at for at, _, _ in said) >= old}

    def dump(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {"units": self.units.dump(), "tally": self.tally.dump(), "places": self._places, "said": self._said}

    def restore(self, stored: Mapping[str, Any]) -> None:
        """What ``dump`` gave."""
        self.units.restore(stored["units"])
        self.tally.restore(stored["tally"])
        self._places = dict(stored["places"])
        self._said = {name: [(at, place, value) for at, place, value in said] for name, said in stored["said"].items()}

    def _preferred(self, row: Row) -> float | None:
        """1: the candidate's answer, -1: the live model's; None: nobody chose in time."""
        until = row.ts + self.rules.react_s
        in_time = sorted(one for one in self._said.get(row.id, []) if one[0] <= until)
        if not in_time or row.id not in self._places:
            return None
        _, place, value = in_time[-1]
        return value if place == self._places[row.id] else -value
