"""Which data judges a candidate, and which made it: read from the manifests of the candidate and all its ancestors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Final

from flywheel.config import FlywheelConfig
from flywheel.errors import NotFoundInLakeError
from flywheel.evaluation.cases import load_cases
from flywheel.lake.manifests import Manifest, lineage, list_manifests
from flywheel.lake.tables import Lake
from flywheel.review.labels import read_labels
from flywheel.rollout.gate import Lineage
from flywheel.workflow.evaluations.judge_runs import calibration_labels

SEARCHED: Final = "sweep-"
"""How the version of a filter begins that a sweep found; see ``workflow.sweep.name``."""


def _dataset(data: dict[str, Any]) -> Iterable[str]:
    return (inference for row in data["rows"] for inference in row[1])


def _reward(data: dict[str, Any]) -> Iterable[str]:
    return (inference for fold in data["rows"] for inference in fold)


def _filter(data: dict[str, Any]) -> Iterable[str]:
    return data["label_ids"]


SAW: Final[dict[str, tuple[tuple[str, ...], Callable[[dict[str, Any]], Iterable[str]]]]] = {
    "dataset": (("training",), _dataset),
    "reward": (("reward",), _reward),
    "filter": (("sweep", "filter"), _filter),
}
"""Kind of manifest -> the makers it speaks for, and the ids they saw."""


def trace_lineage(lake: Lake, config: FlywheelConfig, candidate: str) -> Lineage | None:
    """Ids of labels, inferences and cases that judge, against those that each instrument and the training saw.

    A filter that a sweep found, in a turn or for ``quality.filter_file``, must have left a manifest that names its
    labels; without one there is no entry ``filter``.

    Args:
        lake: the lake.
        config: the flow, and the suites that decide.
        candidate: a registered version.

    Returns:
        None when a manifest is missing.
    """
    try:
        walk = lineage(lake, "model", candidate)
    except NotFoundInLakeError:
        return None
    found = {item.data["best"]["version"]: item for item in list_manifests(lake, "filter", config.flow)}
    searched = {version for item in walk if (version := _filter_of(item)).startswith(SEARCHED)}
    manifests = {item.ref: item for item in [*walk, *(found[version] for version in searched & found.keys())]}
    makers = ["training", "reward", "sweep", *(["filter"] if searched <= found.keys() else [])]
    used, sources = _seen(manifests.values())
    judge = {} if config.judging.backend == "none" else {"judge": calibration_labels(lake, config)}
    return Lineage(
        judged_by=judges(lake, config),
        used={maker: frozenset(used[maker]) for maker in makers} | judge,
        sources={maker: sources[maker] for maker in makers if sources[maker]},
    )


def lineage_rows(lineage: Lineage | None) -> dict[str, Any] | None:
    """What an artifact keeps of it: counts, where they are written, and ids only where they are on both sides."""
    if lineage is None:
        return None
    return {
        "judged_by": len(lineage.judged_by),
        "used": {maker: len(ids) for maker, ids in lineage.used.items()},
        "sources": lineage.sources,
        "overlap": lineage.overlap(),
    }


def judges(lake: Lake, config: FlywheelConfig) -> frozenset[str]:
    """Everything that the verdict rests on: cases of the suites that decide, their answers, labels of split gate."""
    cases = load_cases(lake, config.flow, config.decisive_suites())
    judged = {case.case_id for case in cases} | {case.inference_id for case in cases if case.inference_id}
    return frozenset(judged | {label.label_id for label in read_labels(lake, config.flow, split="gate")})


def _filter_of(item: Manifest) -> str:
    """The version of the filter that chose a dataset's rows; "" for what no filter made."""
    return item.data.get("filter", {}).get("version", "") if item.kind == "dataset" else ""


def _seen(manifests: Iterable[Manifest]) -> tuple[dict[str, set[str]], dict[str, list[str]]]:
    used: dict[str, set[str]] = defaultdict(set)
    sources: dict[str, list[str]] = defaultdict(list)
    for item in manifests:
        makers, ids = SAW.get(item.kind, ((), _filter))
        for maker in makers:
            used[maker] |= set(ids(item.data))
            sources[maker].append(item.ref)
    return used, sources
