"""MLflow for real: its SQLite tables, its server, and its absence."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow_server import MlflowServer

from flywheel.config import FlywheelConfig, TrackingConfig
from flywheel.errors import EnvironmentProblem
from flywheel.lake.tables import Lake
from flywheel.registry.tracking import client, project_aliases, track, version_numbers
from flywheel.registry.versions import content_hash, register, resolve

PROGRAM = """
import sys, logging
logging.basicConfig(level=logging.INFO)
from pathlib import Path
from flywheel.config import FlywheelConfig
from flywheel.registry.tracking import track
print(track(FlywheelConfig(home=Path(sys.argv[1])), key="k", name="n", metrics={"a": 1.0}))
"""


def free_port() -> int:
    with socket.socket() as item:
        item.bind(("127.0.0.1", 0))
        return item.getsockname()[1]


def model(folder: Path, weights: str = "w") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    (folder / "model.safetensors").write_text(weights)
    return folder


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FlywheelConfig:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return FlywheelConfig(home=tmp_path / "home")


def exercise(lake: Lake, config: FlywheelConfig, tmp_path: Path) -> None:
    """Register two versions, track, set and move aliases; everything twice."""
    one = register(lake, config, folder=model(tmp_path / "a"), params={"lr": 1e-3}, metrics={"loss": 2.0})
    two = register(lake, config, folder=model(tmp_path / "b", "x"), parents=[f"model/{one.version}"])
    assert register(lake, config, folder=tmp_path / "b", parents=[f"model/{one.version}"]) == two
    assert version_numbers(config) == {one.version: "1", two.version: "2"}

    project_aliases(config, {"live": one.version, "candidate": two.version})
    for _ in range(2):
        project_aliases(config, {"live": two.version, "candidate": None})
    api = client(config)
    registered = api.get_registered_model(config.flow)
    assert {name: str(number) for name, number in registered.aliases.items()} == {"live": "2"}

    for _ in range(2):
        run_id = track(
            config, key="turn-1", name="turn", params={"epochs": 4}, metrics={"accuracy": 0.9},
            series={"loss": [3.0, 2.0, 1.0]},
            artifacts={"report.txt": "all well", "log": tmp_path / "b" / "config.json"},
        )  # fmt: skip
    run = api.get_run(run_id)
    assert (run.data.params["epochs"], run.data.metrics["accuracy"]) == ("4", 0.9)
    assert [point.step for point in api.get_metric_history(run_id, "loss")][:3] == [0, 1, 2]
    assert {item.path for item in api.list_artifacts(run_id)} == {"report.txt", "config.json"}
    assert api.get_run(one.run_id).data.metrics["loss"] == 2.0
    assert len(api.search_runs([run.info.experiment_id])) == 3
    with pytest.raises(EnvironmentProblem, match="has no version triage-v0009"):
        project_aliases(config, {"live": "triage-v0009"})


def test_sqlite_under_home(config: FlywheelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    elsewhere = tmp_path / "cwd"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    started = time.monotonic()
    exercise(Lake(str(tmp_path / "lake")), config, tmp_path)
    assert time.monotonic() - started < 60
    assert (tmp_path / "home" / "mlflow.db").is_file()
    assert list(elsewhere.iterdir()) == [], "nothing is written into the folder that a command is started in"


def test_first_use_is_quiet_and_two_first_users_do_not_collide(tmp_path: Path):
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "home")]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert all(len(out.split()) == 1 for out, _ in outputs)
    assert [error for _, error in outputs] == ["", ""]


@pytest.mark.slow
def test_a_served_mlflow(config: FlywheelConfig, tmp_path: Path):
    server = MlflowServer(tmp_path)
    served = config.model_copy(update={"tracking": TrackingConfig(uri=server.uri)})
    try:
        server.start()
        exercise(Lake(str(tmp_path / "lake")), served, tmp_path)
    finally:
        server.kill(signal.SIGTERM)
    started = time.monotonic()
    with pytest.raises(EnvironmentProblem, match=f"MLflow at {server.uri} cannot be used.*start it"):
        project_aliases(served, {"live": None})
    assert time.monotonic() - started < 10


def test_an_absent_server_is_one_clear_sentence_and_no_version(config: FlywheelConfig, tmp_path: Path):
    gone = config.model_copy(update={"tracking": TrackingConfig(uri=f"http://127.0.0.1:{free_port()}")})
    lake = Lake(str(tmp_path / "lake"))
    started = time.monotonic()
    with pytest.raises(EnvironmentProblem, match="run the same command again: finished steps are kept"):
        register(lake, gone, folder=model(tmp_path / "a"))
    assert time.monotonic() - started < 15
    assert register(lake, config, folder=tmp_path / "a").version == "triage-v0001", "the claimed number is taken up"


@pytest.mark.s3
@pytest.mark.slow
def test_models_on_s3_are_fetched_once_and_checked(s3_environment, config: FlywheelConfig, tmp_path: Path):
    lake = Lake(s3_environment.new_lake_uri(), s3_environment.options)
    found = register(lake, config, folder=model(tmp_path / "a", "w" * 100_000))
    assert found.folder == config.home_path() / "cache" / "models" / found.version
    assert content_hash(found.folder) == content_hash(tmp_path / "a") == found.content_hash
    lake.store.delete([f"models/{found.version}/model.safetensors"])
    assert resolve(lake, config, found.version) == found, "the cache answers"
