"""Who may be judged and who may be learnt from: two pure splits, fixed before anything reads the rows.

Both are decided by subject, so that no person stands on both sides.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from flywheel.config import LabelsConfig
from flywheel.errors import ConfigError
from flywheel.records import Split
from flywheel.text.hashing import unit_interval

Side = Literal["evaluation", "training"]


def label_split(
    subject: str, labels: LabelsConfig, seed: int, decided: Mapping[str, Split] | None = None
) -> Split | None:
    """The split that every label of this subject belongs to, for good.

    Args:
        subject: keyed pseudonym.
        labels: the three shares, each of subjects.
        seed: the flow's seed; another seed draws another split.
        decided: splits of subjects that have labels (see ``review.labels.read_splits``); they keep them, whatever
            became of shares and seed since.

    Returns:
        tune, audit, gate, or None: nobody is asked about this subject, its rows are free for training.

    Raises:
        ConfigError: the shares add up to more than 1.
    """
    if labels.tune_share + labels.audit_share + labels.gate_share > 1:
        raise ConfigError("labels: tune_share + audit_share + gate_share exceed 1; lower one of them")
    if decided and subject in decided:
        return decided[subject]
    place = unit_interval("label-split", str(seed), subject)
    if place < labels.tune_share:
        return "tune"
    if place < labels.tune_share + labels.audit_share:
        return "audit"
    if place < labels.tune_share + labels.audit_share + labels.gate_share:
        return "gate"
    return None


@dataclass(frozen=True)
class Failure:
    """A row that went wrong: whose it was, and which group of alike failures it belongs to."""

    inference_id: str
    subject: str
    cluster: str


class FailureSplit(NamedTuple):
    """Inference ids of the two sides; together all failures, and never an id in both."""

    evaluation: frozenset[str]
    training: frozenset[str]


def failure_split(
    failures: Sequence[Failure], *, share: float, seed: int, decided: Mapping[str, Side] | None = None
) -> FailureSplit:
    """Split failures by subject, with ``share`` of each cluster's subjects going to evaluation.

    A subject with failures in several clusters counts in the one where it has most (ties: the first
    by name). Within a cluster, subjects stand in the order of a seeded hash and the first of them fill
    the cluster's quota. Call it once a turn over *all* failures, before any consent or quality filter:
    the quota depends on the set. A subject in ``decided`` (see ``sides``) keeps the side it had in an
    earlier turn and counts towards the quota, so that nothing moves from training to evaluation.

    Args:
        failures: in any order; the result does not depend on it.
        share: wanted part of subjects on the evaluation side, in (0, 1).
        seed: the flow's seed.
        decided: side of each subject seen by earlier turns.

    Returns:
        Ids of both sides.
    """
    earlier: Mapping[str, Side] = decided or {}
    side: dict[str, Side] = {}
    for cluster, subjects in sorted(_by_cluster(failures).items()):
        side |= _fill(cluster, subjects, earlier, share, seed)
    chosen = frozenset(item.inference_id for item in failures if side[item.subject] == "evaluation")
    return FailureSplit(chosen, frozenset(item.inference_id for item in failures) - chosen)


def sides(failures: Sequence[Failure], split: FailureSplit) -> dict[str, Side]:
    """Side of each subject of a split: what the next turn passes as ``decided``."""
    chosen = {item.subject for item in failures if item.inference_id in split.evaluation}
    return {item.subject: _side(item.subject in chosen) for item in failures}


def _side(evaluation: bool) -> Side:
    return "evaluation" if evaluation else "training"


def _by_cluster(failures: Sequence[Failure]) -> dict[str, list[str]]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for item in failures:
        counts[item.subject][item.cluster] += 1
    clusters: dict[str, list[str]] = defaultdict(list)
    for subject, seen in counts.items():
        clusters[min(seen, key=lambda name: (-seen[name], name))].append(subject)
    return clusters


def _fill(
    cluster: str, subjects: Collection[str], earlier: Mapping[str, Side], share: float, seed: int
) -> dict[str, Side]:
    side: dict[str, Side] = {subject: earlier[subject] for subject in subjects if subject in earlier}
    fresh = sorted(
        (subject for subject in subjects if subject not in earlier),
        key=lambda subject: (unit_interval("failure-split", str(seed), subject), subject),
    )
    quota = _round(share * len(subjects), cluster, seed) - sum(1 for kept in side.values() if kept == "evaluation")
    for position, subject in enumerate(fresh):
        side[subject] = _side(position < quota)
    return side


def _round(wanted: float, cluster: str, seed: int) -> int:
    """Round up or down by a seeded draw, so that many clusters of one or two subjects keep the share as well."""
    whole = math.floor(wanted)
    return whole + (unit_interval("failure-quota", str(seed), cluster) < wanted - whole)
