"""Names, claims and resolution of model versions, without MLflow (stood in for) and without a real model."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import flywheel.registry.versions as versions_module
from flywheel.config import FlywheelConfig
from flywheel.errors import EnvironmentProblem, ModelError, UsageError
from flywheel.inference.models import TRAINING_REPORT
from flywheel.lake.manifests import list_manifests, read_manifest
from flywheel.lake.tables import Lake
from flywheel.registry.tracking import tracking_uri
from flywheel.registry.versions import content_hash, register, resolve, versions


def model(folder: Path, weights: str = "w") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    (folder / "model.safetensors").write_text(weights)
    return folder


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


@pytest.fixture
def config(tmp_path: Path) -> FlywheelConfig:
    return FlywheelConfig(home=tmp_path / "home")


@pytest.fixture(autouse=True)
def mlflow(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    shown: list[str] = []

    def register_version(_config, *, version, **_):
        shown.append(version)
        return str(len(shown))

    monkeypatch.setattr(versions_module, "track", lambda *_, **__: "run-1")
    monkeypatch.setattr(versions_module, "register_version", register_version)
    return shown


def test_versions_count_up_and_name_their_parents(lake: Lake, config: FlywheelConfig, tmp_path: Path):
    base = register(lake, config, folder=model(tmp_path / "a"))
    tuned = register(
        lake, config, folder=model(tmp_path / "b", "x"), parents=[f"model/{base.version}", "dataset/d1"],
        metrics={"loss": 1.0}, data={"turn": "t1"},
    )  # fmt: skip
    assert (base.version, tuned.version, tuned.number) == ("triage-v0001", "triage-v0002", "2")
    assert tuned.folder == Path(lake.uri) / "models" / "triage-v0002"
    assert (tuned.folder / "model.safetensors").read_text() == "x"
    manifest = versions(lake, "triage")[-1]
    assert manifest.parents == ["model/triage-v0001", "dataset/d1"]
    assert (manifest.data["turn"], manifest.data["metrics"]) == ("t1", {"loss": 1.0})
    assert resolve(lake, config, "triage-v0002") == tuned


def test_the_same_model_with_the_same_parents_is_the_same_version(lake: Lake, config: FlywheelConfig, tmp_path: Path):
    first = register(lake, config, folder=model(tmp_path / "a"), parents=["p1", "p2"])
    assert register(lake, config, folder=model(tmp_path / "copy"), parents=["p2", "p1"]) == first
    assert register(lake, config, folder=tmp_path / "a", parents=["p3"]).version == "triage-v0002"


def test_when_and_where_it_was_trained_does_not_make_it_another_model(
    lake: Lake, config: FlywheelConfig, tmp_path: Path
):
    for name, seconds in (("a", 1.5), ("b", 2.5)):
        (model(tmp_path / name) / TRAINING_REPORT).write_text(f'{{"out": "{tmp_path / name}", "seconds": {seconds}}}')
    assert content_hash(tmp_path / "a") == content_hash(tmp_path / "b")
    first = register(lake, config, folder=tmp_path / "a", parents=["p"])
    assert register(lake, config, folder=tmp_path / "b", parents=["p"]) == first
    assert TRAINING_REPORT in read_manifest(lake, "model", first.version, flow=config.flow).data["files"]


def test_a_killed_registration_keeps_its_number(
    lake: Lake, config: FlywheelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = model(tmp_path / "a")

    def down(*_, **__):
        raise EnvironmentProblem("MLflow is down")

    with monkeypatch.context() as patched:
        patched.setattr(versions_module, "register_version", down)
        with pytest.raises(EnvironmentProblem):
            register(lake, config, folder=folder)
    with pytest.raises(UsageError):
        resolve(lake, config, "triage-v0001")
    other = register(lake, config, folder=model(tmp_path / "b", "other"))
    again = register(lake, config, folder=folder)
    assert (other.version, again.version) == ("triage-v0002", "triage-v0001")


def test_many_at_once_get_a_number_each(lake: Lake, config: FlywheelConfig, tmp_path: Path):
    folders = [model(tmp_path / f"m{n}", str(n % 3)) for n in range(6)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda folder: register(lake, config, folder=folder), folders))
    assert sorted({item.version for item in found}) == ["triage-v0001", "triage-v0002", "triage-v0003"]
    assert len(list_manifests(lake, "model", "triage")) == 3
    assert [found[n].content_hash for n in range(3)] == [found[n + 3].content_hash for n in range(3)]


def test_a_folder_is_known_by_its_content(lake: Lake, config: FlywheelConfig, tmp_path: Path):
    first, copy, other = model(tmp_path / "a"), model(tmp_path / "b"), model(tmp_path / "c", "x")
    (copy / ".note").write_text("dot files do not count")
    assert content_hash(first) == content_hash(copy) != content_hash(other)
    found = resolve(lake, config, first)
    assert (found.version, found.registered) == (f"triage-path-{content_hash(first)[:10]}", False)
    assert resolve(lake, config, str(other)).version != found.version


def test_what_cannot_be_resolved_names_the_nearest(lake: Lake, config: FlywheelConfig, tmp_path: Path):
    with pytest.raises(UsageError, match="no version is registered yet"):
        resolve(lake, config, "triage-v0001")
    register(lake, config, folder=model(tmp_path / "a"))
    with pytest.raises(UsageError, match="did you mean 'triage-v0001'"):
        resolve(lake, config, "triage-v01")
    with pytest.raises(UsageError, match="known versions: triage-v0001"):
        resolve(lake, config, "/nowhere/at/all/xyzxyz")


def test_a_folder_that_cannot_be_served_gets_no_version(lake: Lake, config: FlywheelConfig, tmp_path: Path):
    folder = model(tmp_path / "a")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="no tokenizer"):
        register(lake, config, folder=folder)
    assert lake.store.list("models") == []


def test_lost_files_are_noticed(lake: Lake, config: FlywheelConfig, tmp_path: Path):
    found = register(lake, config, folder=model(tmp_path / "a"))
    (found.folder / "config.json").unlink()
    with pytest.raises(ModelError, match="are gone"):
        resolve(lake, config, found.version)


def test_a_remote_lake_is_cached_and_checked(
    lake: Lake, config: FlywheelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    found = register(lake, config, folder=model(tmp_path / "a"))
    monkeypatch.setattr(type(lake.store), "local_path", lambda *_: None)
    fetched = resolve(lake, config, found.version)
    assert fetched.folder == config.home_path() / "cache" / "models" / found.version
    assert content_hash(fetched.folder) == found.content_hash
    lake.store.put(f"models/{found.version}/model.safetensors", b"tampered")
    assert resolve(lake, config, found.version).folder == fetched.folder
    fetched.folder.rename(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="not those that were registered"):
        resolve(lake, config, found.version)
    assert list(fetched.folder.parent.iterdir()) == []


def test_where_mlflow_is(config: FlywheelConfig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri(config) == f"sqlite:///{config.home_path()}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere:5000")
    assert tracking_uri(config) == "http://elsewhere:5000"
