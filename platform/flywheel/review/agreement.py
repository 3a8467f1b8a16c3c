"""How well annotators agree: for each guideline version and question, pair by pair and all together. Pure.

Verdicts are compared as right or wrong (a correction says wrong), ratings as steps of a scale, comparisons as which
answer is better. Only labels made under the same guideline are compared, and rulings of adjudicators are left out:
they were made in the knowledge of what others had said.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, NamedTuple

from flywheel.records import Label, Split
from flywheel.review.settle import Matter, Opinions, Question, opinions, says_right
from flywheel.statistics.agreement import Agreement, Level, Weights, cohen_kappa_interval, krippendorff_alpha_interval


class Scale(NamedTuple):
    """The values of a question, in their order, and how they differ."""

    values: tuple[float, ...]
    weights: Weights | None
    level: Level


SCALES: Final[dict[Question, Scale]] = {
    "judge": Scale((0.0, 1.0), None, "nominal"),
    "rate": Scale((1.0, 2.0, 3.0, 4.0, 5.0), "quadratic", "ordinal"),
    "compare": Scale((-1.0, 0.0, 1.0), None, "nominal"),
}


@dataclass(frozen=True)
class Coefficient:
    """A coefficient with its 95 % interval; None where it is undefined (too few items, or one value throughout)."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class PairRow:
    """Two annotators under one guideline. ``same``: items on which their values are equal."""

    question: Question
    guideline_version: str
    annotators: tuple[str, str]
    items: int
    same: int
    kappa: Coefficient


@dataclass(frozen=True)
class VersionRow:
    """All annotators under one guideline. ``items``: those with two labels or more."""

    question: Question
    guideline_version: str
    annotators: tuple[str, ...]
    items: int
    alpha: Coefficient


@dataclass(frozen=True)
class Disagreement:
    """One answer on which annotators disagree; ``settled``: somebody adjudicated."""

    inference_id: str
    question: Question
    split: Split
    settled: bool
    said: Mapping[str, str]


@dataclass(frozen=True)
class AgreementReport:
    """Everything about the agreement of a flow's annotators."""

    pairs: list[PairRow]
    versions: list[VersionRow]
    disagreements: list[Disagreement]

    @property
    def open(self) -> int:
        """Disagreements that wait for an adjudicator; until then these answers make no case and tune nothing."""
        return sum(not one.settled for one in self.disagreements)


def agreement(labels: Iterable[Label]) -> AgreementReport:
    """The report over labels that hold now, of any split."""
    matters = opinions(labels)
    pairs, versions = list[PairRow](), list[VersionRow]()
    for (question, version), items in sorted(_by_guideline(matters.items()).items()):
        names = sorted({name for item in items for name in item})
        shared = [(pair, [item for item in items if set(pair) <= item.keys()]) for pair in combinations(names, 2)]
        pairs += [_pair(question, version, pair, both) for pair, both in shared if both]
        if any(both for _, both in shared):
            versions.append(_version(question, version, names, items))
    disputed = [
        Disagreement(
            inference_id=matter.inference_id,
            question=matter.question,
            split=one.said[0].split,
            settled=one.ruling is not None,
            said={label.annotator: _told(label) for label in one.said},
        )
        for matter, one in matters.items()
        if one.disputed
    ]
    return AgreementReport(pairs, versions, disputed)


def value_of(label: Label) -> float | None:
    """A label's place on the scale of its question; None for a label without one."""
    right = says_right(label)
    return label.value if label.kind in ("rate", "compare") else None if right is None else float(right)


def _by_guideline(matters: Iterable[tuple[Matter, Opinions]]) -> dict[tuple[Question, str], list[dict[str, float]]]:
    """For each question and guideline the items, each as annotator -> value."""
    found: dict[tuple[Question, str], list[dict[str, float]]] = defaultdict(list)
    for matter, one in matters:
        by_version: dict[str, dict[str, float]] = defaultdict(dict)
        for label in one.said:
            value = value_of(label)
            if value is not None:
                by_version[label.guideline_version][label.annotator] = value
        for version, values in by_version.items():
            found[matter.question, version].append(values)
    return found


def _pair(question: Question, version: str, pair: tuple[str, str], items: Sequence[Mapping[str, float]]) -> PairRow:
    left, right = ([item[name] for item in items] for name in pair)
    scale = SCALES[question]
    kappa = cohen_kappa_interval(left, right, weights=scale.weights, scale=scale.values)
    same = sum(one == other for one, other in zip(left, right, strict=True))
    return PairRow(question, version, pair, len(items), same, _rounded(kappa))


def _version(
    question: Question, version: str, names: Sequence[str], items: Sequence[Mapping[str, float]]
) -> VersionRow:
    scale = SCALES[question]
    alpha = krippendorff_alpha_interval([list(item.values()) for item in items], level=scale.level, scale=scale.values)
    return VersionRow(question, version, tuple(names), alpha.items, _rounded(alpha))


def _rounded(found: Agreement) -> Coefficient:
    value, low, high = (None if math.isnan(one) else round(one, 6) for one in (found.value, found.low, found.high))
    return Coefficient(value, low, high)


def _told(label: Label) -> str:
    if label.correction is not None:
        return f"{label.kind}: {label.correction}"
    return label.kind if label.value is None else f"{label.kind} {label.value:g}"
