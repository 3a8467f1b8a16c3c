from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from flywheel.config import FlywheelConfig, LakeConfig, load
from flywheel.errors import ConfigError, LakeError, UsageError
from flywheel.gateway.auth import is_loopback, load_keys
from flywheel.gateway.deploy import check_ingress, serve_config, withdraw
from flywheel.gateway.keyfile import change_keys
from flywheel.gateway.keys import ApiKey, digest, new_id
from flywheel.gateway.service import open_gateway
from flywheel.lake.keys import Keyring

ROOT = Path(__file__).parents[3]
KEY = ApiKey(id=new_id(), name="k", sha256=digest("s"), roles=["product"], flows=["triage"])


@pytest.mark.parametrize("shipped", sorted(ROOT.glob("configs/*/serve.yaml")), ids=lambda path: path.parent.name)
def test_the_shipped_serve_config_is_made_of_its_configuration(shipped):
    source = shipped.parent / "flywheel.yaml"
    expected = serve_config(source.relative_to(ROOT), load(FlywheelConfig, source))
    assert yaml.safe_load(shipped.read_text()) == expected


def test_serve_accepts_it_and_it_names_no_model():
    from ray.serve.schema import ServeDeploySchema

    content = serve_config("x.yaml", FlywheelConfig())
    ServeDeploySchema.model_validate(content)
    assert content["applications"][0]["deployments"] == [
        {"name": "Gateway", "user_config": {"routing": "routing/triage"}}
    ]


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.5", "::", "example.org"])
def test_an_open_gateway_without_keys_is_refused(host):
    with pytest.raises(UsageError, match="api_keys_file"):
        serve_config("x.yaml", load(FlywheelConfig, None, {"gateway.host": host}))


def test_an_open_gateway_with_keys_is_fine(tmp_path):
    keys = tmp_path / "keys"
    change_keys(keys, lambda _: [KEY])
    config = load(FlywheelConfig, None, {"gateway.host": "0.0.0.0", "gateway.api_keys_file": str(keys)})
    assert serve_config("x.yaml", config)["http_options"]["host"] == "0.0.0.0"


@pytest.mark.parametrize("content", ["", "# only a comment\n"])
def test_a_file_without_keys_is_refused(tmp_path, content):
    keys = tmp_path / "keys"
    keys.write_text(content)
    config = load(FlywheelConfig, None, {"gateway.api_keys_file": str(keys)})
    with pytest.raises(UsageError, match="no key"):
        load_keys(config.gateway)


def test_a_gateway_with_another_master_key_than_the_lakes_does_not_open(tmp_path):
    lake = LakeConfig(uri=str(tmp_path / "lake"))
    first, second = (FlywheelConfig(home=tmp_path / name, lake=lake) for name in ("first", "second"))
    open_gateway(first, load_keys(first.gateway)).outbox.close()
    with pytest.raises(ConfigError, match="another master key"):
        open_gateway(second, load_keys(second.gateway))


def test_a_gateway_opens_while_the_lake_is_away(tmp_path, monkeypatch):
    def away(*_):
        raise LakeError("no answer")

    monkeypatch.setattr(Keyring, "check_belongs", away)
    config = FlywheelConfig(home=tmp_path)
    open_gateway(config, load_keys(config.gateway)).outbox.close()


def test_loopback():
    assert all(map(is_loopback, ["127.0.0.1", "127.1.2.3", "::1", "localhost"]))


def test_haproxy_on_a_cluster_without_it_is_refused():
    with pytest.raises(UsageError, match="started without it"):
        check_ingress({"RAY_SERVE_ENABLE_HA_PROXY": "0"})
    with pytest.raises(UsageError, match="before 'ray start'"):
        check_ingress({"RAY_SERVE_ENABLE_HA_PROXY": "1"})  # Ray's own way opens two ports to everybody
    check_ingress({"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_HAPROXY_BINARY_PATH": "/x"})


def test_on_another_s_cluster_down_removes_what_up_deployed_and_nothing_else(monkeypatch):
    from ray import serve

    running = ["theirs", "engine-triage-v0001", "gateway", "capture", "controller", "rollout"]
    gone = []
    monkeypatch.setattr(serve, "status", lambda: SimpleNamespace(applications=dict.fromkeys(running)))
    monkeypatch.setattr(serve, "delete", gone.append)
    withdraw(FlywheelConfig.model_validate({"rollout": {"canary_steps": [0.1]}}))
    assert gone == ["gateway", "capture", "controller", "rollout", "engine-triage-v0001"]
