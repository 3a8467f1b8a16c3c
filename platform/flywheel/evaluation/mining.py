"""Failures that may judge -> cases: clustered, without near-duplicates, the most frequent kind first. Pure.

A corrected failure becomes an active case at once, as in a turn. Any other is *proposed*: nobody knows yet what the
right answer is, so a person writes the check and approves it (``evaluation.lifecycle``).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from flywheel.config import MiningConfig
from flywheel.evaluation.cases import case_id
from flywheel.evaluation.failing import Sign, Signs, clearest
from flywheel.evaluation.slices import question, slices_of
from flywheel.records import Check, EvalCase, Inference
from flywheel.text.clusters import MOST, cluster_texts
from flywheel.text.minhash import near_duplicate_groups

SUITE: Final = "failures"
NEAR: Final = 0.8
"""Jaccard index from which two questions are the same case."""
UNWRITTEN: Final = Check(kind="contains", expected=[])
"""Stands where nobody wrote the check yet; no answer passes it, and ``checks.validate`` refuses it."""


@dataclass(frozen=True)
class Cluster:
    """Alike failures: how many cases, and the share of all traffic that asks for the same."""

    name: str
    cases: int
    priority: float


@dataclass(frozen=True)
class Mined:
    """What to store, by priority; the clusters behind it; and why other failures became no case."""

    cases: list[EvalCase]
    clusters: list[Cluster]
    dropped: dict[str, int]


@dataclass(frozen=True)
class _Found:
    """A failure that is or may become a case."""

    row: Inference
    signs: frozenset[Sign]
    case: EvalCase | None
    """The case it is already: made from its correction, or stored as a proposal."""

    @property
    def order(self) -> tuple[int, float, str]:
        """The clearest and newest first: what stays of near-duplicates and within the limits."""
        return clearest(self.signs), -self.row.ts.timestamp(), self.row.inference_id


def mine(
    failures: Sequence[Inference],
    signs: Signs,
    *,
    corrected: Iterable[EvalCase],
    stored: Iterable[EvalCase],
    traffic: Sequence[str],
    policy: MiningConfig,
) -> Mined:
    """Cases of failures. Everything given must be on the evaluation side and consented for evaluation.

    Args:
        failures: the failed answers.
        signs: what speaks against each of them.
        corrected: cases of those with a correction (``cases.failures_suite``).
        stored: the latest version of every stored case: nothing near to one is proposed again, and open proposals
            get their new cluster and priority.
        traffic: questions of all recent requests, which say how frequent each kind of failure is.
        policy: the limits.
    """
    known = {case.case_id: case for case in stored}
    made = {case.inference_id: case for case in corrected}
    dropped: Counter[str] = Counter()
    candidates: list[_Found] = []
    for row in failures:
        there = known.get(case_id(row, SUITE))
        if there is not None and there.settled and row.inference_id not in made:
            dropped["settled"] += 1
        elif question(row.messages).strip():
            # One that was retired for want of consent is proposed anew: that is there again.
            case = there if there is not None and there.status != "retired" else None
            candidates.append(_Found(row, signs[row.inference_id], made.get(row.inference_id) or case))
        else:
            dropped["no_question"] += 1
    candidates.sort(key=lambda found: (found.case is None, *found.order))
    dropped["too_many"] = len(candidates[MOST:])
    unique = _unique(candidates[:MOST], known, dropped)
    cases, clusters = _clustered(unique, traffic, policy, dropped)
    return Mined(cases, clusters, {reason: count for reason, count in sorted(dropped.items()) if count})


def _unique(candidates: Sequence[_Found], known: Mapping[str, EvalCase], dropped: Counter[str]) -> list[_Found]:
    """Without those near to a stored case or to one before them; what is a case already stays."""
    mine_ = {case_id(found.row, SUITE) for found in candidates}
    there = [question(case.messages) for key, case in known.items() if key not in mine_ and case.messages]
    groups = near_duplicate_groups([*there, *(question(found.row.messages) for found in candidates)], NEAR)
    taken, kept = set(groups[: len(there)]), list[_Found]()
    for found, group in zip(candidates, groups[len(there) :], strict=True):
        if found.case is None and group in taken:
            dropped["near_duplicate"] += 1
            continue
        taken.add(group)
        kept.append(found)
    return kept


def _clustered(
    unique: Sequence[_Found], traffic: Sequence[str], policy: MiningConfig, dropped: Counter[str]
) -> tuple[list[EvalCase], list[Cluster]]:
    unique = sorted(unique, key=lambda found: found.row.inference_id)  # proposals of last time change no cluster
    clustering = cluster_texts([question(found.row.messages) for found in unique])
    shares = clustering.shares(traffic)
    ranked = sorted(zip(clustering.clusters, shares, strict=True), key=lambda pair: (-pair[1], pair[0].name))
    room = policy.max_proposed - sum(found.case is not None and found.case.status == "proposed" for found in unique)
    cases, clusters = list[EvalCase](), list[Cluster]()
    for group, share in ranked:
        per_status: dict[bool, list[_Found]] = defaultdict(list)
        for place in group.members:
            per_status[unique[place].case is None].append(unique[place])
        there, new = per_status[False], sorted(per_status[True], key=lambda found: found.order)
        allowed = max(0, min(room, policy.per_cluster - len(there)))
        room -= len(new[:allowed])
        dropped["over_limit"] += len(new[allowed:])
        chosen = [_case(found, group.name, share) for found in [*there, *new[:allowed]]]
        if chosen:
            clusters.append(Cluster(group.name, len(chosen), share))
            cases += chosen
    return cases, clusters


def _case(found: _Found, cluster: str, priority: float) -> EvalCase:
    place = {"cluster": cluster, "priority": round(priority, 4)}
    if found.case is not None:
        return found.case.model_copy(update=place)
    row = found.row
    return EvalCase(
        case_id=case_id(row, SUITE),
        flow=row.flow,
        suite=SUITE,
        messages=row.messages,
        check=UNWRITTEN,
        origin="failure",
        inference_id=row.inference_id,
        session_id=row.session_id,
        subject=row.subject,
        slices=slices_of(row),
        status="proposed",
        **place,
    )
