"""`flywheel keys` as an operator uses it: make, list, revoke; what gateways then say."""

import asyncio
import json
import stat
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from flywheel.cli.main import app
from flywheel.errors import UsageError
from flywheel.gateway.auth import load_keys
from flywheel.gateway.problems import ApiProblem

runner = CliRunner()


@pytest.fixture
def keys(tmp_path):
    path = tmp_path / "api-keys.jsonl"

    def run(*arguments):
        set_ = ["--set", f"home={tmp_path}", "--set", f"gateway.api_keys_file={path}"]
        done = runner.invoke(app, ["keys", *arguments, *set_], catch_exceptions=True)
        if isinstance(done.exception, UsageError):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.stdout

    run.path = path
    return run


def gateway(path):
    from flywheel.config import GatewayConfig

    return load_keys(GatewayConfig(api_keys_file=path))


def test_a_key_opens_until_it_is_revoked(keys):
    made = json.loads(
        keys("create", "shop", "--role", "product", "--role", "feedback", "--tenant", "acme",
             "--requests-per-minute", "60", "--tokens-per-minute", "1000", "--expires", "30d", "--json")
    )  # fmt: skip
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    assert made["secret"] not in keys.path.read_text()
    assert (made["roles"], made["flows"], made["state"]) == (["product", "feedback"], ["triage"], "active")
    assert timedelta(29) < datetime.fromisoformat(made["expires"]) - datetime.now(UTC) <= timedelta(30)
    running = gateway(keys.path)
    assert running.check(f"Bearer {made['secret']}").tenant == "acme"

    (listed,) = json.loads(keys("list", "--json"))
    assert listed == {name: value for name, value in made.items() if name not in {"secret", "file"}}
    assert "sha256" not in listed

    assert json.loads(keys("revoke", made["id"], "--json"))["state"] == "revoked"
    asyncio.run(running.refresh())
    with pytest.raises(ApiProblem, match="revoked"):
        running.check(f"Bearer {made['secret']}")
    assert json.loads(keys("list", "--json"))[0]["state"] == "revoked"


def test_people_see_the_secret_once(keys):
    said = keys("create", "shop")
    secret = next(word for word in said.split() if word.startswith("fw-"))
    assert "not shown again" in said
    assert gateway(keys.path).check(f"Bearer {secret}").roles == {"product"}
    listed = keys("list")
    assert "shop" in listed
    assert secret not in listed


def test_revoking_twice_keeps_the_first_time(keys):
    made = json.loads(keys("create", "shop", "--json"))
    first = json.loads(keys("revoke", made["id"], "--json"))
    assert json.loads(keys("revoke", made["id"], "--json")) == first


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "x", "--role", "admin"], "--role"),
        (["create", "x", "--flow", "No Flow"], "--flow"),
        (["create", "x", "--tenant", "A B"], "--tenant"),
        (["create", "x", "--tokens-per-minute", "0"], "--tokens-per-minute"),
        (["create", "x", "--expires", "soon"], "30d, 12h"),
        (["create", "x", "--expires", "2020-01-31"], "past"),
        (["create", ""], "--name"),
        (["revoke", "key-00000000"], "no key"),
    ],
)
def test_wrong_arguments_are_explained_and_change_nothing(keys, arguments, said):
    keys("create", "first")
    before = keys.path.read_text()
    with pytest.raises(UsageError, match=said):
        keys(*arguments)
    assert keys.path.read_text() == before


def test_without_a_configured_file_the_next_step_is_named(tmp_path):
    done = runner.invoke(app, ["keys", "create", "shop", "--set", f"home={tmp_path}"])
    assert "api_keys_file" in done.stdout
    assert (tmp_path / "keys" / "api-keys.jsonl").exists()
