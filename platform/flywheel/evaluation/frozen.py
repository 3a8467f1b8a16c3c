"""Frozen suites: the exact versions of a suite's cases under a name that never changes what it means.

A manifest of kind ``suite`` lists (case id, version); the name ``golden@1a2b3c4d5e6f`` holds the hash of that list, so
that results under it stay comparable however the cases are edited or retired later.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from flywheel.errors import NotFoundInLakeError, UsageError
from flywheel.lake.manifests import Manifest, content_id, list_manifests, read_manifest, write_manifest
from flywheel.lake.tables import Lake
from flywheel.records import EvalCase

KIND = "suite"
_MARK = "@"


def is_frozen(name: str) -> bool:
    """Whether this is the name of a frozen suite."""
    return _MARK in name


def freeze(
    lake: Lake,
    cases: Sequence[EvalCase],
    *,
    flow: str,
    suite: str,
    code_version: str,
    config_hash: str = "",
    seed: int = 0,
) -> str:
    """Write down which versions the suite consists of now; its name. The same cases have the same name.

    Args:
        lake: where the manifest goes.
        cases: the active cases of the suite, as ``load_cases`` gives them.
        flow: the flow.
        suite: its plain name.
        code_version: for the manifest.
        config_hash: for the manifest.
        seed: for the manifest.

    Raises:
        UsageError: the suite is frozen already, or has no case.
    """
    if is_frozen(suite):
        raise UsageError(f"'{suite}' is frozen already; name the suite before the {_MARK}")
    if not cases:
        raise UsageError(f"the suite '{suite}' has no active case; list the suites with `flywheel cases suites`")
    rows = sorted([case.case_id, case.version] for case in cases)
    manifest = Manifest(
        kind=KIND,
        id=content_id(KIND, flow, suite, rows),
        flow=flow,
        parents=[f"eval_cases@{lake.version('eval_cases')}"],
        code_version=code_version,
        config_hash=config_hash,
        seed=seed,
        data={"suite": suite, "rows": rows},
    )
    write_manifest(lake, manifest)
    return _name(manifest)


def frozen_suites(lake: Lake, flow: str) -> dict[str, int]:
    """Name of each frozen suite, the oldest first, and how many cases it has."""
    return {_name(item): len(item.data["rows"]) for item in list_manifests(lake, KIND, flow)}


def frozen_cases(
    lake: Lake, flow: str, name: str, rows: Collection[EvalCase], latest: Mapping[str, EvalCase]
) -> list[EvalCase]:
    """The cases of a frozen suite, as they were, under its whole name as their suite.

    Args:
        lake: holds the manifest.
        flow: the flow.
        name: of the frozen suite.
        rows: all stored versions of cases.
        latest: the newest version of each, which says whether it may still be used: a case that a person retired may,
            one whose person withdrew consent may not.

    Raises:
        NotFoundInLakeError: there is no such suite.
    """
    suite, _, digest = name.partition(_MARK)
    try:
        manifest = read_manifest(lake, KIND, f"{KIND}-{digest}", flow=flow)
    except NotFoundInLakeError:
        manifest = None
    if manifest is None or manifest.data["suite"] != suite:
        raise NotFoundInLakeError(f"no suite '{name}' was frozen; list the suites with `flywheel cases suites`")
    wanted = {(case_id, version) for case_id, version in manifest.data["rows"]}
    kept = [case for case in rows if (case.case_id, case.version) in wanted and _usable(latest[case.case_id])]
    return [case.model_copy(update={"suite": name, "status": "active"}) for case in kept]


def _usable(newest: EvalCase) -> bool:
    return newest.status != "retired" or newest.settled


def _name(manifest: Manifest) -> str:
    return f"{manifest.data['suite']}{_MARK}{manifest.id.removeprefix(f'{KIND}-')}"
