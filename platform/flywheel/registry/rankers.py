"""Versions of rankers: files at ``rankers/<content>/`` and a manifest ``manifests/ranker/<flow>/<flow>-r0001.json``.

The manifest names the lists that were learnt from, so that an erasure finds the rankers of a person's lists. It is
written put-if-absent behind its files, whose place is their own content, and so decides the number: a run that was
killed in between leaves files that nobody names, and the next one writes the same. MLflow does not know rankers: they
are files of a few hundred kilobytes that nothing but our gateway reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import flywheel
from flywheel.config import FlywheelConfig, config_hash
from flywheel.errors import NotFoundInLakeError, UsageError
from flywheel.inference.engagement_ranker import EngagementRanker, content_hash
from flywheel.lake.manifests import Manifest, content_id, list_manifests, read_manifest, write_manifest
from flywheel.lake.ranker_files import keep_files
from flywheel.lake.tables import Lake

KIND: Final = "ranker"


def register_ranker(
    lake: Lake, config: FlywheelConfig, ranker: EngagementRanker, *, parents: Sequence[str], data: Mapping[str, Any]
) -> Manifest:
    """Give a ranker the next version of its flow; the same files with the same parents are the same version.

    Args:
        lake: where files and manifest go.
        config: the flow, and the settings behind the manifest's hash.
        ranker: what is registered.
        parents: what it was made of: tables at versions.
        data: further content of the manifest; ``lists`` are the ids that an erasure looks for.
    """
    files = ranker.files()
    content = content_hash(files)
    identity = content_id(KIND, content, sorted(parents))
    keep_files(lake.store, content, files)
    known = list_manifests(lake, KIND, config.flow)
    found = next((one for one in known if one.data["identity"] == identity), None)
    number = len(known)
    while found is None:
        number += 1
        manifest = Manifest(
            kind=KIND,
            id=f"{config.flow}-r{number:04d}",
            flow=config.flow,
            parents=list(parents),
            code_version=flywheel.__version__,
            config_hash=config_hash(config.quality.ranker),
            seed=config.seed,
            data={**data, "identity": identity, "content_hash": content},
        )
        found = manifest if write_manifest(lake, manifest) else None
    return found


def ranker_manifest(lake: Lake, flow: str, version: str) -> Manifest:
    """The manifest of a version.

    Raises:
        UsageError: there is none of that name.
    """
    try:
        return read_manifest(lake, KIND, version, flow=flow)
    except NotFoundInLakeError:
        names = ", ".join(one.id for one in list_manifests(lake, KIND, flow)[-5:])
        known = names or "none, train one: flywheel ranker train"
        raise UsageError(f"'{version}' is no ranker of the flow '{flow}'; the newest: {known}") from None
