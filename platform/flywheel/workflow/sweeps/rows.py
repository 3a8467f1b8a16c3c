"""What a sweep looks at: candidates whose truth a label tells, and all the others, which are only counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flywheel.config import SweepConfig
from flywheel.errors import UsageError
from flywheel.quality.filters import Columns
from flywheel.quality.rows import Candidate
from flywheel.quality.score import SignalTable
from flywheel.records import Label, Split
from flywheel.review.settle import opinions, says_right
from flywheel.text.answers import same_answer


@dataclass(frozen=True)
class TuneRows:
    """Candidates whose truth a label tells, and the columns in which volume is counted."""

    columns: Columns
    right: NDArray[np.bool_]
    label_ids: list[str]
    volume: Columns | None = None
    """Rows that could be trained on, labelled or not; None: the labelled ones stand for them."""

    def light(self) -> TuneRows:
        """The same without ids, which no rule reads: arrays alone lie in the object store without being copied."""
        return replace(
            self,
            columns=_anonymous(self.columns),
            label_ids=[],
            volume=None if self.volume is None else _anonymous(self.volume),
        )


def tune_rows(
    rows: Sequence[Candidate], signals: SignalTable, labels: Sequence[Label], *, split: Split = "tune"
) -> TuneRows:
    """Join labels of a split to candidates; the sweep knows `tune` only.

    A target is right when it equals what the label expects: the served answer (accept) or the correction; JSON by
    value. A rejection or a low rating makes the served answer wrong, and says nothing about a user's correction of
    it: such rows are left out, as are disputed ones that nobody adjudicated. A verdict beats a rating.
    """
    known = {row.inference_id: row for row in rows}
    said = opinions(label for label in labels if label.split == split and label.inference_id in known)
    counting = {matter: one.counts for matter, one in said.items()}
    truths: dict[str, tuple[bool, str]] = {}
    for question in ("rate", "judge"):
        for matter, label in counting.items():
            right = _is_right(known[matter.inference_id], label) if label and matter.question == question else None
            if label is not None and right is not None:
                truths[matter.inference_id] = right, label.label_id
    order = sorted(truths)
    return TuneRows(
        Columns.of([known[row] for row in order], signals),
        np.array([truths[row][0] for row in order], dtype=bool),
        [truths[row][1] for row in order],
    )


def with_volume(labelled: TuneRows, rows: Sequence[Candidate], signals: SignalTable) -> TuneRows:
    """Count volume in all rows that may be trained on, as long as there are any."""
    free = [row for row in rows if row.held_out is None]
    return replace(labelled, volume=Columns.of(free, signals)) if free else labelled


def check(rows: TuneRows, config: SweepConfig) -> None:
    """Refuse a search that the labels cannot decide; a turn then goes on with the configured filter.

    Raises:
        UsageError: says how many labels are missing.
    """
    count = len(rows.label_ids)
    if count < config.min_tune_labels:
        raise UsageError(
            f"{count} tune labels match a candidate, the sweep needs {config.min_tune_labels}: "
            "label more answers (flywheel label), or lower sweep.min_tune_labels."
        )
    if rows.right.all() or not rows.right.any():
        raise UsageError(f"all {count} tune labels agree, so every threshold looks the same: label more answers.")


def _anonymous(columns: Columns) -> Columns:
    return replace(columns, ids=[""] * len(columns.ids))


def _is_right(row: Candidate, label: Label) -> bool | None:
    """Whether the row's target is right; None: the label does not tell."""
    if label.correction is not None:
        return same_answer(row.target, label.correction)
    if same_answer(row.target, row.answer):
        return says_right(label)
    return False if label.kind == "accept" else None
