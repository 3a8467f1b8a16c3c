"""What human labels there are: counts for ``flywheel labels status``. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flywheel.records import Label
from flywheel.review.settle import opinions


@dataclass(frozen=True)
class Overview:
    """Counts of the labels that hold now.

    Attributes:
        labels: all of them.
        kinds: by kind.
        splits: labels by split.
        subjects: people of each split who have labels; their split is fixed.
        origins: drawn at random, or curated.
        annotators: by annotator.
        guidelines: by guideline version.
        twice: matters that two people or more judged.
        disputed: those on which they disagree and nobody adjudicated; they make no case and tune nothing.
        adjudicated: matters that an adjudicator settled.
        without_answer: random-sample answers of split ``gate`` that were rejected and nobody corrected. They make no
            case, so that the sample lacks what the model gets wrong: correct them.
    """

    labels: int
    kinds: Mapping[str, int]
    splits: Mapping[str, int]
    subjects: Mapping[str, int]
    origins: Mapping[str, int]
    annotators: Mapping[str, int]
    guidelines: Mapping[str, int]
    twice: int
    disputed: int
    adjudicated: int
    without_answer: int

    def remarks(self) -> list[str]:
        """What a person should do next, a line each."""
        lines = []
        if self.disputed:
            lines.append(
                f"{self.disputed} answers are disputed and make no case until somebody settles them: "
                "flywheel label --adjudicate --annotator YOU"
            )
        if self.without_answer:
            lines.append(
                f"{self.without_answer} answers of the random sample were rejected without a correction and make no "
                "case; the sample then looks easier than traffic is: flywheel label --second --annotator YOU"
            )
        return lines


def overview(labels: Sequence[Label]) -> Overview:
    """Count them."""
    matters = opinions(labels)
    counting = [one.counts for one in matters.values()]
    return Overview(
        labels=len(labels),
        kinds=dict(Counter(label.kind for label in labels)),
        splits=dict(Counter(label.split for label in labels)),
        subjects=dict(Counter({label.subject: label.split for label in labels}.values())),
        origins=dict(Counter(label.origin for label in labels)),
        annotators=dict(Counter(label.annotator for label in labels)),
        guidelines=dict(Counter(label.guideline_version for label in labels)),
        twice=sum(len(one.said) > 1 for one in matters.values()),
        disputed=sum(one.open for one in matters.values()),
        adjudicated=sum(one.ruling is not None for one in matters.values()),
        without_answer=sum(
            label is not None and label.kind == "reject" and label.split == "gate" and label.origin == "random"
            for label in counting
        ),
    )
