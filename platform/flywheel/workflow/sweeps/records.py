"""What finished trials found, in the lake. A sweep that was stopped at any moment goes on behind them.

Tune's own restore is not used: its snapshots of an experiment are seconds apart, so that a killed driver would run
finished trials again, and they leave out the scheduler, so that a resumed ASHA would know no rung. A trial here
writes its outcome itself, put-if-absent, before it reports; a rerun reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from pydantic import Field

from flywheel.lake.store import ObjectStore
from flywheel.records import Record
from flywheel.workflow.sweeps.outcomes import Outcome

T = TypeVar("T", bound=Record)


class Trial(Record):
    """A finished batch."""

    trial: int
    outcomes: list[Outcome]
    seconds: float


class Rung(Record):
    """What a proxy model knew after so many steps. Steps and tokens count from the start of its training."""

    step: int
    tokens: int
    loss: float = Field(description="nats a token of the right answers to tune-labelled prompts")
    exact: float = Field(description="share of those prompts that greedy decoding answers right, token for token")
    seconds: float = Field(description="wall-clock seconds since the rung before")


@dataclass(frozen=True)
class Records:
    """One sweep's place in the lake: ``sweeps/<flow>/<sweep>/``. Safe to pickle."""

    store: ObjectStore
    flow: str
    sweep: str

    def key(self, name: str) -> str:
        """Object key of a record."""
        return f"sweeps/{self.flow}/{self.sweep}/{name}.json"

    def trial(self, number: int) -> Trial | None:
        """What the numbered batch found, if it is finished."""
        return self._read(f"trial-{number:04d}", Trial)

    def trials(self, count: int) -> list[Trial]:
        """The finished ones of the first ``count`` batches."""
        found = (self.trial(number) for number in range(count))
        return [one for one in found if one is not None]

    def keep_trial(self, trial: Trial) -> Trial:
        """Store a finished batch; what is stored first stays and is returned."""
        return self._keep(f"trial-{trial.trial:04d}", trial)

    def rungs(self, filter_version: str) -> list[Rung]:
        """The rungs that the proxy of a filter has reached, in order."""
        found: list[Rung] = []
        while (rung := self._read(f"proxy-{filter_version}-rung-{len(found)}", Rung)) is not None:
            found.append(rung)
        return found

    def keep_rung(self, filter_version: str, number: int, rung: Rung) -> Rung:
        """Store a reached rung; what is stored first stays and is returned."""
        return self._keep(f"proxy-{filter_version}-rung-{number}", rung)

    def ended(self, filter_version: str) -> bool:
        """Whether the proxy of a filter is trained, or was stopped."""
        return self.store.exists(self.key(f"proxy-{filter_version}-ended"))

    def end(self, filter_version: str) -> None:
        """Note that it will not go on."""
        self.store.put_if_absent(self.key(f"proxy-{filter_version}-ended"), b"{}")

    def forget(self) -> None:
        """Remove every record of this sweep."""
        self.store.delete(self.store.list(f"sweeps/{self.flow}/{self.sweep}/"))

    def _read(self, name: str, model: type[T]) -> T | None:
        data = self.store.get_or_none(self.key(name))
        return None if data is None else model.model_validate_json(data)

    def _keep(self, name: str, record: T) -> T:
        if self.store.put_if_absent(self.key(name), record.model_dump_json().encode()):
            return record
        return type(record).model_validate_json(self.store.get(self.key(name)))
