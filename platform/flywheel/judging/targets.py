"""What people said, as questions for a judge: pairs from corrections and comparisons, marks from accept and reject.

Pure. Only labels of split ``tune`` may calibrate a judge, and only those that count where several people spoke
(``review.settle.counting``); the caller reads them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from flywheel.judging.judge import Answer, Pair
from flywheel.records import CORRECTION, OTHER, SERVED, Inference, Label, Purpose
from flywheel.text.hashing import stable_hash

Preferred = Literal["left", "right", "tie"]


@dataclass(frozen=True)
class HumanPair:
    """Two answers and the one a person prefers."""

    label_id: str
    pair: Pair
    preferred: Preferred


@dataclass(frozen=True)
class HumanMark:
    """One answer and whether a person calls it right."""

    label_id: str
    item: Pair
    """Its left answer is the one that is marked; messages, subject and purposes are the item's."""
    right: bool

    @property
    def answer(self) -> Answer:
        """What is put to the judge."""
        return Answer(self.item.messages, self.item.left)


def human_pairs(
    labels: Iterable[Label], inferences: Mapping[str, Inference], purposes: Mapping[str, Collection[Purpose]]
) -> list[HumanPair]:
    """Pairs from labels of kind compare and correct.

    Sides are drawn by a hash of the label, so that no side is the better one and a judge of places agrees by chance.

    Args:
        labels: of which split, the caller decides.
        inferences: by id; labels of others are passed over.
        purposes: what each inference may be used for now; none for those that are missing.
    """
    found = []
    for label, row, pair in _labelled(labels, inferences, purposes):
        if label.kind == "correct" and label.correction and label.correction != pair.left:
            other = replace(pair, right=label.correction, right_version=CORRECTION)
            found.append(_drawn(label, row, other, "right"))
        elif label.kind == "compare" and label.other_answer is not None and label.value is not None:
            said: Preferred = "tie" if label.value == 0 else "left" if label.value > 0 else "right"
            other = replace(pair, right=label.other_answer, right_version=label.other_version or OTHER)
            found.append(_drawn(label, row, other, said))
    return found


def human_marks(
    labels: Iterable[Label], inferences: Mapping[str, Inference], purposes: Mapping[str, Collection[Purpose]]
) -> list[HumanMark]:
    """Marks of served answers (accept: right; reject, correct: wrong) and of corrections, which are right."""
    found = []
    for label, _, pair in _labelled(labels, inferences, purposes):
        if label.kind in ("accept", "reject", "correct"):
            found.append(HumanMark(label.label_id, pair, label.kind == "accept"))
        if label.kind == "correct" and label.correction and label.correction != pair.left:
            found.append(HumanMark(label.label_id, replace(pair, left=label.correction), right=True))
    return found


def _labelled(
    labels: Iterable[Label], inferences: Mapping[str, Inference], purposes: Mapping[str, Collection[Purpose]]
) -> Sequence[tuple[Label, Inference, Pair]]:
    found = []
    for label in labels:
        row = inferences.get(label.inference_id)
        if row is None or not 0 <= row.choice_served < len(row.choices):
            continue
        pair = Pair(
            item_id=row.inference_id, messages=row.messages, left=row.choices[row.choice_served], right="",
            left_version=SERVED, right_version="", subject=row.subject,
            purposes=frozenset(purposes.get(row.inference_id, ())),
        )  # fmt: skip
        found.append((label, row, pair))
    return found


def _drawn(label: Label, row: Inference, pair: Pair, preferred: Preferred) -> HumanPair:
    if stable_hash("side", row.inference_id, label.label_id) % 2 == 0:
        return HumanPair(label.label_id, pair, preferred)
    turned = replace(
        pair, left=pair.right, right=pair.left, left_version=pair.right_version, right_version=pair.left_version
    )
    opposite: dict[Preferred, Preferred] = {"left": "right", "right": "left", "tie": "tie"}
    return HumanPair(label.label_id, turned, opposite[preferred])
