"""What the monitor reads (columns) and what it says (records, stored once a turn)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from flywheel.records import Record

Of = Literal["answers", "targets"]
"""What a signal is about: the answer that was served, or the target that training would learn."""
Role = Literal["proxy", "held_out", "watched"]
"""proxy: rows are chosen by it; held_out: nothing may use it; watched: neither."""


@dataclass(frozen=True)
class Rows:
    """n rows of all periods. ``truth`` is 1 (right), 0 (wrong) or NaN (nobody audited it); signals are NaN likewise."""

    people: NDArray[np.int64]
    period: NDArray[np.int64]
    truth: NDArray[np.float64]
    signals: Mapping[str, NDArray[np.float64]]

    def pick(self, chosen: NDArray[np.bool_]) -> Rows:
        """Some of the rows."""
        signals = {name: values[chosen] for name, values in self.signals.items()}
        return Rows(self.people[chosen], self.period[chosen], self.truth[chosen], signals)


class Audit(Record):
    """What audit labels say of a period's answers, one label a person."""

    people: int
    wrong: int

    @property
    def right_share(self) -> float | None:
        """None without labels."""
        return 1 - self.wrong / self.people if self.people else None


class SignalRow(Record):
    """One signal in one period, and in all earlier ones together. Levels are means over people."""

    signal: str
    of: Of
    role: Role
    rows: int = Field(description="on which it was measured")
    labelled: int = Field(description="of these, with an audit label")
    auc: float | None = Field(description="chance that a right row has the better value; None: one kind only")
    auc_low: float | None
    auc_high: float | None
    level: float | None
    level_before: float | None
    rise_p: float | None = Field(description="one-sided p-value that it did not get better; None: too few people")
    fall_p: float | None = Field(description="the same, that it did not get worse")
    change: float | None = Field(default=None, description="reactions: of the level, since the reference period")
    explained: float | None = Field(default=None, description="what the audit's change since then explains of it")
    inflation_p: float | None = Field(default=None, description="reactions: p-value that it explains all of a rise")


class PairRow(Record):
    """Spearman's rho of two signals of the same rows in one period."""

    a: str
    b: str
    of: Of
    rho: float
    low: float
    high: float
    rows: int


class Divergence(Record):
    """A proxy that got better, and its witness did not.

    diverged: the proxy rose and the witness fell, both shown; ``p_value`` is the larger one. inflated: the proxy rose
    by more than the audit can explain.
    """

    signal: str
    kind: Literal["diverged", "inflated"] = "diverged"
    witness: str = Field(description="audit, or the held-out signal")
    p_value: float
    text: str


class Examination(Record):
    """One period of a flow: the table, and what follows. Stored once, consumed by status, cadence and reports."""

    turn: str
    at: datetime
    look: int | None = Field(description="number of the test; 0: the first period, nothing to compare with; None: none")
    level: float | None = Field(description="an alarm needs a p-value at or below it")
    audit: Audit
    audit_before: Audit
    fall_p: float | None = Field(description="one-sided p-value that answers did not get worse by the audit")
    signals: list[SignalRow]
    pairs: list[PairRow]
    held_out: str
    held_out_used_by: list[str] = Field(default_factory=list, description="what used it nevertheless")
    alarms: list[Divergence] = Field(
        default_factory=list[Divergence],
        description="the audit fell, or a reaction was inflated and the audit shows no rise",
    )
    warnings: list[Divergence] = Field(
        default_factory=list[Divergence],
        description="the held-out signal fell, or the audit rose by less than a reaction did",
    )
    text: str

    @property
    def alarm(self) -> bool:
        """Whether a proxy rose and quality did not."""
        return bool(self.alarms)
