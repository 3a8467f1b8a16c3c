"""Manifests and their lineage; keys and what destroying one means."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flywheel.errors import ConfigError, EnvironmentProblem, NotFoundInLakeError
from flywheel.lake.keys import MASTER_ENV, Keyring
from flywheel.lake.manifests import Manifest, content_id, lineage, list_manifests, read_manifest, write_manifest
from flywheel.lake.tables import Lake
from flywheel.records import Message

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def manifest(kind: str, name: str, *parents: str, flow: str = "triage", age: int = 0) -> Manifest:
    return Manifest(
        kind=kind, id=name, flow=flow, created=T0 + timedelta(hours=age), parents=list(parents),
        code_version="0.1.0", config_hash="c", seed=0, data={"n": 1},
    )  # fmt: skip


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


@pytest.fixture(autouse=True)
def no_master_key(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(MASTER_ENV, raising=False)


def test_a_manifest_is_written_once(lake: Lake):
    first = manifest("dataset", "d1")
    assert write_manifest(lake, first)
    assert not write_manifest(lake, manifest("dataset", "d1", "model/other"))
    assert read_manifest(lake, "dataset", "d1") == first == read_manifest(lake, "dataset", "d1", flow="triage")
    with pytest.raises(NotFoundInLakeError, match="no dataset 'd2'"):
        read_manifest(lake, "dataset", "d2")


def test_manifests_are_listed_oldest_first_and_by_flow(lake: Lake):
    for name, age in (("a", 2), ("b", 1)):
        write_manifest(lake, manifest("model", name, age=age))
    write_manifest(lake, manifest("model", "c", flow="other"))
    assert [item.id for item in list_manifests(lake, "model", "triage")] == ["b", "a"]
    assert list_manifests(lake, "model", "none") == []


def test_lineage_runs_from_a_model_to_its_sources_and_names_each_once(lake: Lake):
    for item in (
        manifest("dataset", "d1", "inferences@3"),
        manifest("dataset", "d2", "dataset/d1"),
        manifest("model", "base"),
        manifest("model", "m1", "dataset/d1", "dataset/d2", "base"),
    ):
        write_manifest(lake, item)
    assert [item.ref for item in lineage(lake, "model", "m1")] == ["model/m1", "dataset/d1", "dataset/d2", "model/base"]


def test_a_missing_ancestor_is_an_error_and_not_a_short_lineage(lake: Lake):
    write_manifest(lake, manifest("model", "m1", "dataset/gone"))
    with pytest.raises(NotFoundInLakeError, match="dataset/gone"):
        lineage(lake, "model", "m1")
    with pytest.raises(NotFoundInLakeError):
        lineage(lake, "model", "none")


def test_content_ids_depend_on_content_alone():
    assert content_id("ds", {"a": 1, "b": T0}, [1, 2]) == content_id("ds", {"b": T0, "a": 1}, (1, 2))
    assert content_id("ds", "ab", "c") != content_id("ds", "a", "bc")
    assert content_id("ds", Message(role="user", content="x")) == content_id("ds", {"content": "x", "role": "user"})
    assert content_id("ds", 1).startswith("ds-")
    assert len(content_id("ds", 1)) == len("ds-") + 12


def test_the_master_key_is_made_once_and_only_for_its_owner(tmp_path: Path):
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: Keyring(tmp_path).surrogate_key(), range(32)))
    assert len(keys) == 1
    path = tmp_path / "keys" / "master"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [item.name for item in path.parent.iterdir()] == ["master"]
    path.chmod(0o644)
    with pytest.raises(EnvironmentProblem, match="chmod 600"):
        Keyring(tmp_path)


def test_the_environment_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(MASTER_ENV, "ab" * 32)
    one, two = Keyring(tmp_path / "x"), Keyring(tmp_path / "y")
    assert one.feedback_key() == two.feedback_key() != one.surrogate_key()
    assert not (tmp_path / "x").exists()
    for bad in ("not hex", "abcd"):
        monkeypatch.setenv(MASTER_ENV, bad)
        with pytest.raises(ConfigError, match="openssl rand -hex 32"):
            Keyring(tmp_path)


def test_pseudonyms_are_keyed_and_keep_tenants_apart(tmp_path: Path):
    ring = Keyring(tmp_path / "a")
    name = ring.pseudonym("default", "alice")
    assert len(name) == 20
    assert int(name, 16) >= 0
    assert name == Keyring(tmp_path / "a").pseudonym("default", "alice")
    others = {ring.pseudonym("other", "alice"), ring.pseudonym("default", "bob"),
              Keyring(tmp_path / "b").pseudonym("default", "alice"), ring.pseudonym("defaulta", "lice")}  # fmt: skip
    assert len(others | {name}) == 5


def test_destroying_a_subjects_key_makes_its_macs_unverifiable(lake: Lake, tmp_path: Path):
    ring = Keyring(tmp_path)
    mac = ring.row_mac(lake.store, "s1", "row")
    assert mac == Keyring(tmp_path).row_mac(lake.store, "s1", "row")
    assert mac not in {ring.row_mac(lake.store, "s2", "row"), ring.row_mac(lake.store, "s1", "row2")}
    kept = ring.row_mac(lake.store, "s2", "row")
    ring.destroy_subject_key(lake.store, "s1")
    assert not lake.store.exists("keys/subjects/s1")
    assert ring.row_mac(lake.store, "s1", "row") != mac
    assert ring.row_mac(lake.store, "s2", "row") == kept


def test_racing_callers_get_one_subject_key(lake: Lake, tmp_path: Path):
    Keyring(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: Keyring(tmp_path).subject_key(lake.store, "s"), range(32)))
    assert len(keys) == 1
