import json
import os
import socket

import pytest

from flywheel.config import FlywheelConfig, load
from flywheel.errors import BusyError, EnvironmentProblem, UsageError
from flywheel.operate import processes
from flywheel.telemetry import private_files
from flywheel.workflow import cluster
from flywheel.workflow.shared import check_lake


@pytest.fixture
def config(tmp_path):
    return load(FlywheelConfig, overrides={"home": str(tmp_path / "home")})


def test_a_port_in_use_is_named_with_what_to_do():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BusyError, match=f"Port {port} .* choose another port"):
            cluster.check_port("127.0.0.1", port, "the gateway")


def test_a_full_disk_is_said_before_work_starts(tmp_path):
    with pytest.raises(EnvironmentProblem, match="Free some space"):
        cluster.check_disk(tmp_path / "not" / "yet", need_mb=10**12)


def test_a_folder_is_no_lake_for_several_nodes(config):
    check_lake(config, nodes=1)
    with pytest.raises(UsageError, match=r"s3://"):
        check_lake(config, nodes=2)


def test_an_address_left_by_a_dead_process_does_not_count(config):
    path = cluster.up_file(config)
    path.parent.mkdir(parents=True)
    assert cluster.read_up(config) is None
    path.write_text('{"pid": 999999999}')
    assert cluster.read_up(config) is None
    path.write_text(f'{{"pid": {os.getpid()}}}')
    assert cluster.read_up(config) == {"pid": os.getpid()}


def test_a_number_that_is_somebody_else_s_now_does_not_count(config):
    """As after a restart of a container: `down` must not end whoever has the number."""
    path = cluster.up_file(config)
    path.parent.mkdir(parents=True)
    cluster.write_alive(path, os.getpid(), url="http://127.0.0.1:8000")
    assert cluster.read_up(config) == {"pid": os.getpid(), "url": "http://127.0.0.1:8000"}
    told = json.loads(path.read_text())
    path.write_text(json.dumps({**told, "born": told["born"] - 3600}))
    assert cluster.read_up(config) is None
    assert not processes.down(config)


def test_what_commands_write_is_for_this_user_alone(tmp_path):
    before = os.umask(0o022)
    try:
        private_files()
        (tmp_path / "folder").mkdir()
        (tmp_path / "file").write_text("what somebody said")
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o077 for name in ("folder", "file")] == [0, 0]


def test_the_environment_switches_usage_statistics_off_and_keeps_the_token_private(config, monkeypatch):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAY_USAGE_STATS_ENABLED", "MLFLOW_DISABLE_TELEMETRY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", "")
    cluster.prepare_environment(config)
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert os.environ["VLLM_NO_USAGE_STATS"] == "1"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    token = config.home_path() / "keys" / "ray-token"
    assert os.environ["RAY_AUTH_TOKEN_PATH"] == str(token)
    assert token.stat().st_mode & 0o077 == 0
