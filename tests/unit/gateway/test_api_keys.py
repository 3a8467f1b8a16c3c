"""Keys as the gateway holds them: who is let in, and what happens when the key file changes under it."""

import asyncio
import json
import os
import stat
from datetime import timedelta

import pytest

from flywheel.config import FlywheelConfig, GatewayConfig
from flywheel.errors import UsageError
from flywheel.gateway import metrics
from flywheel.gateway.auth import ApiKeys, load_keys
from flywheel.gateway.keyfile import change_keys, key_file, parse_keys, read_keys
from flywheel.gateway.keys import ApiKey, digest, new_id, new_secret
from flywheel.gateway.problems import ApiProblem
from flywheel.records import utcnow


def key(secret, **more):
    values = {"id": new_id(), "name": "k", "sha256": digest(secret), "roles": ["product"], "flows": ["triage"], **more}
    return ApiKey(**values)


def bearer(secret):
    return f"Bearer {secret}"


def code(keys, authorization):
    with pytest.raises(ApiProblem) as problem:
        keys.check(authorization)
    assert problem.value.status == 401
    return problem.value.code


def test_a_secret_has_256_bits_and_only_its_digest_is_written(tmp_path):
    secret, path = new_secret(), tmp_path / "deep" / "keys.jsonl"
    assert len(secret) == len("fw-") + 43
    assert secret != new_secret()
    change_keys(path, lambda held: [*held, key(secret)])
    assert secret not in path.read_text()
    assert secret[3:] not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_keys(GatewayConfig(api_keys_file=path)).check(bearer(secret)).tenant == "default"


def test_a_caller_is_who_the_key_says():
    made = key("s", tenant="acme", roles=["feedback", "operator"], flows=["a", "b"], requests_per_minute=5)
    caller = ApiKeys([key("other"), made]).check("bearer  s ")
    assert (caller.tenant, caller.key_id, caller.roles) == ("acme", made.id, {"feedback", "operator"})
    assert caller.serves("a")
    assert not caller.serves("c")
    assert caller.meter is not None


@pytest.mark.parametrize("authorization", [None, "", "s", "Basic s", "Bearer", "Bearer ", "Bearer S", "Bearer s s"])
def test_anything_but_the_secret_is_refused(authorization):
    assert code(ApiKeys([key("s")]), authorization) == "invalid_api_key"


def test_expired_and_revoked_keys_say_so():
    now = utcnow()
    keys = ApiKeys(
        [
            key("old", expires=now - timedelta(seconds=1)),
            key("gone", revoked=now),
            key("new", expires=now + timedelta(1)),
        ]
    )
    assert code(keys, bearer("old")) == "key_expired"
    assert code(keys, bearer("gone")) == "key_revoked"
    assert keys.check(bearer("new")).key_id


def test_without_keys_everybody_comes_in_but_nobody_may_rate_without_a_token():
    caller = ApiKeys([], tenant="acme").check(None)
    assert caller.tenant == "acme"
    assert "feedback" not in caller.roles
    assert {"product", "operator"} <= caller.roles


def test_a_gateway_whose_keys_all_go_does_not_open():
    keys = ApiKeys([key("s")])
    keys.follow([])
    assert code(keys, bearer("s")) == "invalid_api_key"
    assert code(keys, None) == "invalid_api_key"


class Followed:
    """A gateway's keys over a file that the test changes."""

    def __init__(self, tmp_path):
        self.path = tmp_path / "keys.jsonl"
        self.first = key("first")
        change_keys(self.path, lambda _: [self.first])
        self.keys = load_keys(GatewayConfig(api_keys_file=self.path))

    def refresh(self):
        asyncio.run(self.keys.refresh())
        return metrics.KEYS_STALE._value.get()


def test_a_changed_file_is_followed(tmp_path):
    world = Followed(tmp_path)
    change_keys(world.path, lambda held: [*held, key("second")])
    assert code(world.keys, bearer("second")) == "invalid_api_key"
    assert world.refresh() == 0
    assert world.keys.check(bearer("second"))
    change_keys(world.path, lambda held: [held[0].model_copy(update={"revoked": utcnow()}), held[1]])
    world.refresh()
    assert code(world.keys, bearer("first")) == "key_revoked"


def test_a_change_right_after_the_start_is_not_missed(tmp_path):
    world = Followed(tmp_path)
    before = world.path.stat()
    text = world.path.read_text().replace(world.first.sha256, digest("swapped"))
    world.path.write_text(text)
    os.utime(world.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    world.refresh()
    assert world.keys.check(bearer("swapped"))


@pytest.mark.parametrize("how", ["broken", "empty", "missing", "plain", "writable"])
def test_a_bad_file_leaves_the_last_good_keys_loudly(tmp_path, caplog, how):
    world = Followed(tmp_path)
    world.refresh()
    if how == "missing":
        world.path.unlink()
    elif how == "writable":
        world.path.chmod(0o622)
    else:
        world.path.write_text({"broken": '{"id": 1}\n', "empty": "", "plain": "hunter2\n"}[how])
    assert world.refresh() == 1
    assert "stay in force" in caplog.text
    assert "hunter2" not in caplog.text
    assert world.keys.check(bearer("first"))
    world.path.unlink(missing_ok=True)
    change_keys(world.path, lambda _: [key("repaired")])
    assert world.refresh() == 0
    assert code(world.keys, bearer("first")) == "invalid_api_key"
    assert world.keys.check(bearer("repaired"))


def test_a_file_of_plain_secrets_is_refused_with_what_to_do():
    with pytest.raises(UsageError, match=r"line 2 .*flywheel keys create") as refused:
        parse_keys("# ours\nhunter2\n", "keys")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"roles": ["admin"]}, "roles"),
        ({"roles": []}, "roles"),
        ({"flows": ["No Flow"]}, "flows"),
        ({"sha256": "abc"}, "sha256"),
        ({"tenant": "A B"}, "tenant"),
        ({"requests_per_minute": 0}, "requests_per_minute"),
        ({"expires": "2027-01-31T00:00:00"}, "expires"),
        ({"secret": "s"}, "secret"),
    ],
)
def test_a_wrong_line_is_named_without_its_content(change, said):
    good = json.loads(key("s").model_dump_json())
    with pytest.raises(UsageError, match=rf"line 1 of keys: {said}"):
        parse_keys(json.dumps({**good, **change}), "keys")


def test_one_digest_twice_is_refused():
    line = key("s").model_dump_json()
    twin = key("s").model_dump_json()
    with pytest.raises(UsageError, match="one id twice"):
        parse_keys(f"{line}\n{line}", "keys")
    with pytest.raises(UsageError, match="one sha256 twice"):
        parse_keys(f"{line}\n{twin}", "keys")


def test_a_change_that_fails_leaves_the_file(tmp_path):
    path = tmp_path / "keys.jsonl"
    change_keys(path, lambda _: [key("s")])

    def fails(_):
        raise UsageError("no")

    with pytest.raises(UsageError):
        change_keys(path, fails)
    assert len(read_keys(path)) == 1
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.endswith(".lock")) == ["keys.jsonl"]


def test_the_key_file_of_a_configuration(tmp_path):
    assert key_file(FlywheelConfig(home=tmp_path)) == tmp_path / "keys" / "api-keys.jsonl"
    chosen = FlywheelConfig(home=tmp_path, gateway=GatewayConfig(api_keys_file="/etc/keys"))
    assert str(key_file(chosen)) == "/etc/keys"
