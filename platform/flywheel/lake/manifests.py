"""Manifests: what an artifact was made of. Written once, never changed; lineage is a walk over parents."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import Field
from pydantic_core import to_jsonable_python

from flywheel.errors import NotFoundInLakeError
from flywheel.records import Record, utcnow

if TYPE_CHECKING:
    from flywheel.lake.tables import Lake

ROOT = "manifests"


class Manifest(Record):
    """The record of one artifact: a dataset, a model, an evaluation, a turn.

    A parent is another manifest (``kind/id``, see ``ref``; a bare id is looked up over all kinds) or
    something from outside, such as ``inferences@12`` for a table at a version, which ends the walk.
    """

    kind: str
    id: str
    flow: str
    created: datetime = Field(default_factory=utcnow)
    parents: list[str] = Field(default_factory=list)
    code_version: str
    config_hash: str
    seed: int
    data: dict[str, Any] = Field(default_factory=dict)

    @property
    def ref(self) -> str:
        """How a child names this manifest among its parents."""
        return f"{self.kind}/{self.id}"


def content_id(prefix: str, *parts: Any) -> str:
    """``prefix-<12 hex digits>`` of the canonical JSON of ``parts`` (models, dates and paths included)."""
    canonical = json.dumps(to_jsonable_python(parts), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return f"{prefix}-{hashlib.sha256(canonical.encode()).hexdigest()[:12]}"


def manifest_key(kind: str, flow: str, manifest_id: str) -> str:
    """Where a manifest lies in the lake."""
    return f"{ROOT}/{kind}/{flow}/{manifest_id}.json"


def write_manifest(lake: Lake, manifest: Manifest) -> bool:
    """Store a manifest once. False: one with this kind, flow and id is there already and stays as it is."""
    body = manifest.model_dump_json(indent=1).encode()
    return lake.store.put_if_absent(manifest_key(manifest.kind, manifest.flow, manifest.id), body)


def read_manifest(lake: Lake, kind: str, manifest_id: str, *, flow: str | None = None) -> Manifest:
    """One manifest; without ``flow`` it is looked for in every flow.

    Raises:
        NotFoundInLakeError: there is none.
    """
    if flow is not None:
        return _load(lake, manifest_key(kind, flow, manifest_id))
    key = _index(lake.store.list(f"{ROOT}/{kind}")).get(f"{kind}/{manifest_id}")
    if key is None:
        raise NotFoundInLakeError(f"no {kind} '{manifest_id}' in {lake.uri}; list the known ones with: flywheel status")
    return _load(lake, key)


def list_manifests(lake: Lake, kind: str, flow: str) -> list[Manifest]:
    """All manifests of a kind and flow, oldest first."""
    found = [_load(lake, key) for key in lake.store.list(f"{ROOT}/{kind}/{flow}")]
    return sorted(found, key=lambda manifest: (manifest.created, manifest.id))


def lineage(lake: Lake, kind: str, manifest_id: str) -> list[Manifest]:
    """The manifest and all its ancestors, children before parents (breadth first), each once.

    Raises:
        NotFoundInLakeError: the manifest, or an ancestor named as ``kind/id``, is missing.
    """
    index = _index(lake.store.list(ROOT))
    waiting, seen, walk = [f"{kind}/{manifest_id}"], set[str](), list[Manifest]()
    while waiting:
        ref = waiting.pop(0)
        key = index.get(ref)
        if key is None and "/" not in ref:
            continue  # from outside the lake's manifests: a table version, a base model
        if key is None:
            raise NotFoundInLakeError(f"manifest {ref} is missing in {lake.uri}, so the lineage is broken; restore it")
        if key not in seen:
            seen.add(key)
            walk.append(_load(lake, key))
            waiting.extend(walk[-1].parents)
    return walk


def _load(lake: Lake, key: str) -> Manifest:
    return Manifest.model_validate_json(lake.store.get(key))


def _index(keys: Iterable[str]) -> dict[str, str]:
    """``kind/id`` and the bare id of every manifest key -> the key."""
    index: dict[str, str] = {}
    for key in keys:
        _, kind, _, name = key.split("/", 3)
        manifest_id = name.removesuffix(".json")
        index[manifest_id] = index[f"{kind}/{manifest_id}"] = key
    return index
