import pytest

from flywheel.config import FilterConfig, FlywheelConfig, config_hash, dump, load
from flywheel.config.loader import parse_overrides
from flywheel.errors import ConfigError


def write(tmp_path, text):
    path = tmp_path / "flywheel.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [
        ("trainning: {epochs: 2}", "trainning", "training"),
        ("training: {epoch: 2}", "training.epoch", "epochs"),
        ("quality: {filter: {min_vote: 2}}", "quality.filter.min_vote", "min_votes"),
    ],
)
def test_a_typo_names_the_key_and_the_nearest_known_one(tmp_path, text, key, nearest):
    with pytest.raises(ConfigError) as caught:
        load(FlywheelConfig, write(tmp_path, text))
    assert f"unknown key '{key}'" in str(caught.value)
    assert f"did you mean '{nearest}'?" in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_wrong_value_names_key_and_value(tmp_path):
    with pytest.raises(ConfigError, match=r"'training\.epochs'.*got 'many'"):
        load(FlywheelConfig, write(tmp_path, "training: {epochs: many}"))


def test_the_line_is_named_but_not_for_what_was_overridden(tmp_path):
    path = write(tmp_path, "flow: x\ntraining:\n  # few\n  epochs: many\n  batch: 3\n")
    with pytest.raises(ConfigError) as caught:
        load(FlywheelConfig, path, {"training.batch": 4})
    assert "'training.epochs' (line 4): " in str(caught.value)
    assert "unknown key 'training.batch'; did you mean" in str(caught.value)
    with pytest.raises(ConfigError, match=r"'training\.epochs': .*got 'few'"):
        load(FlywheelConfig, write(tmp_path, "training: {epochs: 2}"), {"training.epochs": "few"})


@pytest.mark.parametrize("text", ["- a\n- b\n", "training: [", "just words"])
def test_what_is_not_a_mapping_is_a_clear_error(tmp_path, text):
    with pytest.raises(ConfigError):
        load(FlywheelConfig, write(tmp_path, text))


def test_a_missing_file_says_where_examples_are(tmp_path):
    with pytest.raises(ConfigError, match="configs/"):
        load(FlywheelConfig, tmp_path / "none.yaml")


def test_dump_and_load_are_inverse(tmp_path):
    config = load(FlywheelConfig, overrides={"training.epochs": 7, "home": "/tmp/x"})
    dump(config, tmp_path / "out.yaml")
    assert load(FlywheelConfig, tmp_path / "out.yaml") == config
    assert config_hash(load(FlywheelConfig, tmp_path / "out.yaml")) == config_hash(config)


def test_overrides_are_yaml_values_and_change_the_hash():
    overrides = parse_overrides(["training.epochs=9", "rollout.gate.require_shadow=false"])
    config = load(FlywheelConfig, overrides=overrides)
    assert (config.training.epochs, config.rollout.gate.require_shadow) == (9, False)
    assert config_hash(config) != config_hash(load(FlywheelConfig))


@pytest.mark.parametrize("pair", ["training.epochs", "=3"])
def test_an_override_without_key_or_value_is_refused(pair):
    with pytest.raises(ConfigError, match=r"section\.key=value"):
        parse_overrides([pair])


def test_a_filter_file_replaces_the_filter(tmp_path):
    dump(FilterConfig(version="sweep-1", min_votes=2), tmp_path / "filter.yaml")
    config = load(FlywheelConfig, overrides={"quality.filter_file": str(tmp_path / "filter.yaml")})
    assert (config.quality.filter.version, config.quality.filter.min_votes) == ("sweep-1", 2)


def test_a_guard_that_asks_for_more_cases_than_its_suite_may_hold_is_an_error():
    named = {"evaluation.guard_suites": ["regression"], "evaluation.regression.max_cases": 100}
    with pytest.raises(ConfigError, match=r"max_cases is 100, but the gate asks for 200 .*min_cases lower"):
        load(FlywheelConfig, overrides=named)
    lower = {**named, "rollout.gate.guards": {"regression": {"min_cases": 100}}}
    assert load(FlywheelConfig, overrides=lower).rollout.gate.guard("regression").min_cases == 100
    assert load(FlywheelConfig, overrides={"evaluation.regression.max_cases": 100})
