"""Model versions: a folder of safetensors becomes ``<flow>-v0003``, with a manifest that names its parents.

The files lie at ``<lake>/models/<version>/``, the manifest is ``manifests/model/<flow>/<version>.json``. A version
exists once its manifest does; MLflow shows it and is never asked what is true.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock
from pydantic import Field

import flywheel
from flywheel.config import FlywheelConfig, config_hash
from flywheel.errors import ModelError, NotFoundInLakeError, UsageError
from flywheel.inference.models import TRAINING_REPORT, check_model_folder
from flywheel.inference.packaged import PACKAGED
from flywheel.lake.erasures import tainted_lineage
from flywheel.lake.manifests import Manifest, content_id, list_manifests, read_manifest, write_manifest
from flywheel.lake.tables import Lake
from flywheel.records import Record
from flywheel.registry.sources import find_folder
from flywheel.registry.tracking import register_version, track

KIND = "model"


class ModelVersion(Record):
    """A model that can be served, and where it came from. ``folder`` is on this machine."""

    version: str
    flow: str
    folder: Path
    content_hash: str = Field(description="sha256 over the folder's files, 16 hex digits")
    created: datetime | None = None
    parents: list[str] = Field(default_factory=list)
    run_id: str | None = Field(default=None, description="MLflow run")
    number: str | None = Field(default=None, description="MLflow's version number")
    registered: bool = Field(default=True, description="false: a folder given by its path")


def content_hash(folder: Path) -> str:
    """Identity of a model: every file's name and bytes, 16 hex digits.

    Names starting with a dot do not count, nor does ``TRAINING_REPORT``: the same training again is the same model.
    """
    return _combined(_file_hashes(folder))


def register(
    lake: Lake,
    config: FlywheelConfig,
    *,
    folder: Path,
    parents: Sequence[str] = (),
    params: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
    data: Mapping[str, Any] | None = None,
    run_id: str | None = None,
    seed: int | None = None,
    code_version: str | None = None,
) -> ModelVersion:
    """Give a model folder the next version name of its flow, keep its files in the lake, show it in MLflow.

    Safe to run again and at once: the same files with the same parents are the same version. A run that was
    killed half-way is picked up under the number it had claimed.

    Args:
        lake: where files and manifest go.
        config: flow, home, MLflow.
        folder: safetensors, config, tokenizer, chat template.
        parents: manifests it was made of (``dataset/…``, ``model/…``).
        params: logged to its MLflow run.
        metrics: logged to its MLflow run.
        data: further content of the manifest.
        run_id: an MLflow run that belongs to it already; none: one is made.
        seed: default: the flow's.
        code_version: default: the package's version.

    Raises:
        ModelError: the folder cannot be served.
        EnvironmentProblem: MLflow does not answer; the version does not exist then.
    """
    check_model_folder(folder)
    hashes = _file_hashes(folder)
    identity = content_id("model", _combined(hashes), sorted(parents))
    home = config.home_path()
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / "registry.lock"):
        known = list_manifests(lake, KIND, config.flow)
        found = next((item for item in known if item.data.get("identity") == identity), None)
        if found is not None:
            return _located(lake, config, found)
        version = _claim(lake, config.flow, identity, {item.id for item in known})
        lake.store.upload_folder(folder, _prefix(version))
        run_id = run_id or track(config, key=f"model/{version}", name=version, params=params, metrics=metrics)
        tags = {"flywheel.content_hash": _combined(hashes), "flywheel.parents": " ".join(parents)}
        source = f"{lake.uri}/{_prefix(version)}"
        number = register_version(config, version=version, source=source, run_id=run_id, tags=tags)
        manifest = Manifest(
            kind=KIND,
            id=version,
            flow=config.flow,
            parents=list(parents),
            code_version=code_version or flywheel.__version__,
            config_hash=config_hash(config),
            seed=config.seed if seed is None else seed,
            data={
                **(data or {}),
                "identity": identity,
                "content_hash": _combined(hashes),
                "files": hashes,
                "mlflow_run_id": run_id,
                "mlflow_version": number,
                "metrics": dict(metrics or {}),
            },
        )
        write_manifest(lake, manifest)
        return _located(lake, config, read_manifest(lake, KIND, version, flow=config.flow))


def resolve(lake: Lake, config: FlywheelConfig, name_or_path: str | Path) -> ModelVersion:
    """A registered version by name, or any model that ``sources.find_folder`` knows, on this machine's disk.

    From ``s3://`` the files are fetched once into ``<home>/cache/models`` and checked against the manifest. What is
    not registered gets a version name made of its content, so that results of different models never mix.

    Raises:
        UsageError: no such version, package or folder; names the nearest version.
        ModelError: the folder cannot be served, or its files are not those that were registered.
    """
    name = str(name_or_path)
    if "/" not in name:
        try:
            return _located(lake, config, read_manifest(lake, KIND, name, flow=config.flow))
        except NotFoundInLakeError:
            pass
    folder = find_folder(config, name)
    if folder is None:
        raise UsageError(_unknown(name, [item.id for item in list_manifests(lake, KIND, config.flow)]))
    check_model_folder(folder)
    digest = content_hash(folder)
    version = f"{config.flow}-path-{digest[:10]}"
    return ModelVersion(version=version, flow=config.flow, folder=folder, content_hash=digest, registered=False)


def content_of(lake: Lake, flow: str, version: str) -> str:
    """The content hash a version was registered with; of a version that is not registered, its name."""
    try:
        return read_manifest(lake, KIND, version, flow=flow).data.get("content_hash", version)
    except NotFoundInLakeError:
        return version


def untainted(lake: Lake, version: str) -> str:
    """The newest of a version and the models it was made from that learnt nothing which was erased since.

    Raises:
        ModelError: there is none; a clean one must be registered first.
    """
    while tainted_lineage(lake, KIND, version):
        parents = read_manifest(lake, KIND, version).parents
        older = next((ref for ref in parents if ref.startswith(f"{KIND}/")), None)
        if older is None:
            raise ModelError(
                f"{version} learnt from a person who was erased, and was made from no model that did not; begin a new "
                "flow with a clean one: flywheel up --model FOLDER --set flow=NAME"
            )
        version = older.removeprefix(f"{KIND}/")
    return version


def versions(lake: Lake, flow: str) -> list[Manifest]:
    """Manifests of every version of a flow, oldest first."""
    return list_manifests(lake, KIND, flow)


def _claim(lake: Lake, flow: str, identity: str, taken: set[str]) -> str:
    """The first free number, ours by put-if-absent; a claim of the same identity is ours from a killed run."""
    number = 1
    while True:
        version = f"{flow}-v{number:04d}"
        key = f"models/{version}.claim"
        mine = version not in taken and (
            lake.store.put_if_absent(key, identity.encode()) or lake.store.get(key) == identity.encode()
        )
        if mine:
            return version
        number += 1


def _located(lake: Lake, config: FlywheelConfig, manifest: Manifest) -> ModelVersion:
    local = lake.store.local_path(_prefix(manifest.id))
    folder = local if local is not None else _cached(lake, config, manifest)
    if not (folder / "config.json").is_file():
        raise ModelError(f"the files of {manifest.id} are gone from {folder}; restore them or register the model again")
    return ModelVersion(
        version=manifest.id,
        flow=manifest.flow,
        folder=folder,
        content_hash=manifest.data["content_hash"],
        created=manifest.created,
        parents=manifest.parents,
        run_id=manifest.data.get("mlflow_run_id"),
        number=manifest.data.get("mlflow_version"),
    )


def _cached(lake: Lake, config: FlywheelConfig, manifest: Manifest) -> Path:
    target = config.home_path() / "cache" / "models" / manifest.id
    if target.is_dir():
        return target
    partial = target.with_name(f".{manifest.id}.{uuid.uuid4().hex}")
    try:
        lake.store.download_folder(_prefix(manifest.id), partial)
        if _file_hashes(partial) != manifest.data["files"]:
            raise ModelError(
                f"the files of {manifest.id} in {lake.uri} are not those that were registered; register the model again"
            )
        try:
            partial.rename(target)
        except OSError:
            if not target.is_dir():  # another process may have been first, with the same files
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _prefix(version: str) -> str:
    return f"models/{version}"


def _file_hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in files}


def _combined(hashes: Mapping[str, str]) -> str:
    text = "\n".join(f"{name} {digest}" for name, digest in sorted(hashes.items()) if name != TRAINING_REPORT)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unknown(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    if near:
        hint = f"did you mean '{near[0]}'?"
    else:
        hint = f"known versions: {', '.join(known)}" if known else "no version is registered yet"
    return (
        f"'{name}' is neither a registered version, nor a model folder ({os.sep}path/to/folder), nor a packaged model "
        f"({', '.join(PACKAGED)}), nor a Hugging Face id (organisation/model); {hint}"
    )
