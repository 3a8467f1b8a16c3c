"""What a signal says about itself: inputs, cost, version, what it measures and how it is gamed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from flywheel.quality.signals.context import Context, Measured

Cost = Literal["free", "encoder", "model", "external"]
"""free: microseconds to a millisecond of one core a row, always on; encoder and model: a forward pass of a network
of ours; external: asks somebody, for tokens or money. Everything but free is off until the configuration names it."""

Scope = Literal["row", "rows"]
"""row: a function of one row (and settings); rows: of what is known about all rows of a build."""

Group = Literal["said", "did", "peers", "reward", "form", "likelihood", "safety", "rater", "judge"]
"""Where the evidence comes from. Signals of one group err together, so a vote counts a group once."""


@dataclass(frozen=True)
class Declared:
    """One signal. Call it with a row and a context; None means not measured."""

    name: str
    version: str
    """Raise it when the definition changes: stored values of another version are never mixed in."""
    cost: Cost
    scope: Scope
    group: Group
    inputs: tuple[str, ...]
    """Fields that are read: of ``Candidate`` (dotted into ``Evidence``), ``Measured`` or ``Context``."""
    scale: str
    measures: str
    gamed: str
    function: Callable[[Measured, Context], float | None]
    decides: tuple[str, ...] = ()
    """Reasons of the funnel that rest on it."""
    setting: str | None = None
    """The setting under ``quality.signals`` that turns it on; None: always on."""

    def __call__(self, measured: Measured, context: Context) -> float | None:
        """The signal's value for one row."""
        return self.function(measured, context)
