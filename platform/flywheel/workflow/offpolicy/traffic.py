"""Traffic of a flow, a day at a time: rows that may be used, the reactions to them, and why the rest is left out.

Reactions lie in the partition of the answer they are about, so a day is complete in itself and memory holds one day of
columns, never texts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flywheel.capture.consent import consented_ids
from flywheel.config.offpolicy import PolicyQuestion
from flywheel.lake.tables import Lake
from flywheel.records import Consent
from flywheel.workflow.offpolicy.ragged import pc

_ALWAYS = ("inference_id", "tenant", "subject", "ts", "consent", "traffic_kind")
_REACTIONS = ("inference_id", "kind", "value", "subject", "ts", "feedback_id", "choice_index")
_TRAFFIC = pa.array(["live", "canary"])

Bools = npt.NDArray[np.bool_]


@dataclass
class LeftOut:
    """Rows that were looked at, and those that could not be used, by reason."""

    rows: int = 0
    reasons: Counter[str] = field(default_factory=Counter[str])

    def keep(self, table: pa.Table, good: pa.Array | pa.ChunkedArray | Bools, reason: str) -> pa.Table:
        """The rows that are good; the others are counted under ``reason``. Null is not good."""
        kept = table.filter(pa.array(good) if isinstance(good, np.ndarray) else pc.fill_null(good, False))
        self.count(reason, len(table) - len(kept))
        return kept

    def count(self, reason: str, rows: int) -> None:
        """So many rows more."""
        if rows:
            self.reasons[reason] += rows


@dataclass
class People:
    """Independent units as numbers, the same over all days."""

    numbers: dict[str, int] = field(default_factory=dict[str, int])

    def of(self, table: pa.Table) -> npt.NDArray[np.int64]:
        """A number for each row's subject."""
        names = pc.binary_join_element_wise(
            pc.fill_null(table["tenant"], ""), pc.fill_null(table["subject"], ""), "\x1f"
        ).combine_chunks()
        coded = pc.dictionary_encode(names)
        numbers = [self.numbers.setdefault(name, len(self.numbers)) for name in coded.dictionary.to_pylist()]
        return np.array(numbers, dtype=np.int64)[coded.indices.to_numpy()]


@dataclass(frozen=True)
class Day:
    """Usable rows of one day with the columns asked for, and all reactions that lie in its partition."""

    rows: pa.Table
    reactions: pa.Table


@dataclass
class Reading:
    """One reading of a flow's traffic for one question, and what it came across.

    Attributes:
        lake: where the rows are.
        flow: whose.
        question: which days, what counts, and how long reactions are waited for.
        now: time of use, for consent.
        left_out: what was not handed on.
        people: units seen.
    """

    lake: Lake
    flow: str
    question: PolicyQuestion
    now: datetime
    left_out: LeftOut = field(default_factory=LeftOut)
    people: People = field(default_factory=People)

    def days(self, *, columns: Sequence[str], reactions: Sequence[str] = ()) -> Iterator[Day]:
        """Days that have rows, the oldest first.

        Args:
            columns: of inferences, beside those that every question needs.
            reactions: of feedback, likewise.
        """
        consents = self.lake.records("consents", Consent, flow=self.flow)
        settled = pa.scalar(self.now - timedelta(hours=self.question.outcome.wait_h), pa.timestamp("us", tz="UTC"))
        for day in days(self.question.days, self.now):
            table = self._read("inferences", day, [*_ALWAYS, *columns])
            self.left_out.rows += len(table)
            table = self.left_out.keep(
                table, pc.is_in(table["traffic_kind"], value_set=_TRAFFIC), "not_served_to_users"
            )
            allowed = pa.array(sorted(consented_ids(table, consents, "evaluation", self.now)), pa.string())
            table = self.left_out.keep(
                table, pc.is_in(table["inference_id"], value_set=allowed), "no_evaluation_consent"
            )
            table = self.left_out.keep(table, pc.less_equal(table["ts"], settled), "too_young")
            if len(table):
                said = self._read("feedback", day, [*_REACTIONS, *reactions])
                yield Day(table, said.filter(pc.equal(said["kind"], self.question.outcome.kind)))

    def _read(self, table: str, day: str, columns: Sequence[str]) -> pa.Table:
        return self.lake.read(table, flow=self.flow, dates=[day], columns=list(dict.fromkeys(columns)))


def days(count: int, now: datetime) -> list[str]:
    """The last ``count`` days up to tomorrow: an id's time fixes the partition, and clocks differ."""
    last = now.date() + timedelta(days=1)
    return [(last - timedelta(days=back)).isoformat() for back in range(count, -1, -1)]
