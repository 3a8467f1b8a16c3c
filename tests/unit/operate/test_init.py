import json
import os
import subprocess
import sys

import pytest
import yaml
from served_gateway import served_gateway

from flywheel.config import FlywheelConfig, load
from flywheel.errors import UsageError
from flywheel.operate.init import BROWSER_FILE, FILES, Answers, collect, render, write


def test_everything_is_written_and_the_configuration_loads(tmp_path):
    done = write(tmp_path / "new", Answers())
    assert set(done) == {*FILES, BROWSER_FILE, ".gitignore"}
    assert set(done.values()) == {"written"}
    config = load(FlywheelConfig, tmp_path / "new/flywheel.yaml")
    assert (config.flow, config.first_model, config.cadence.every) == ("triage", "tiny", "weekly")
    assert config.evaluation.guard_suites == ["golden"]
    readme = (tmp_path / "new/README.md").read_text()
    assert "- [ ] rated or corrected: 500, better 1,000 — POST /v1/feedback" in readme
    assert "flywheel due" in readme


@pytest.mark.parametrize(
    "answers",
    [
        Answers(flow="support_2", lake="s3://bucket/prefix", consent="none", schedule="30 2 * * MON"),
        Answers(flow="x", model="m-v0003", lake='/data/"odd" lake: #1', consent="evaluation", schedule="none"),
    ],
)
def test_answers_arrive_in_every_file_whatever_is_in_them(tmp_path, answers):
    write(tmp_path, answers)
    config = load(FlywheelConfig, tmp_path / "flywheel.yaml")
    assert (config.flow, config.first_model, config.cadence.every) == (answers.flow, answers.model, answers.schedule)
    assert config.lake_uri() == answers.lake
    client = (tmp_path / "examples/client.py").read_text()
    compile(client, "client.py", "exec")
    assert f'model="{answers.flow}"' in client
    stated = f'extra_headers={{"x-flywheel-consent": "{answers.consent}"}},'
    assert (stated in client) is (answers.consent != "none")
    request = (tmp_path / "examples/request.sh").read_text()
    assert ("-H 'x-flywheel-consent" in request) is (answers.consent != "none")
    subprocess.run(["bash", "-n", tmp_path / "examples/request.sh"], check=True)


def test_the_privacy_block_is_there_to_be_switched_on(tmp_path):
    write(tmp_path, Answers())
    lines = (tmp_path / "flywheel.yaml").read_text().splitlines()
    start = lines.index("# privacy:")
    block = [line.removeprefix("# ") for line in lines[start : start + 3]]
    (tmp_path / "flywheel.yaml").write_text("\n".join([*lines, *block]))
    privacy = load(FlywheelConfig, tmp_path / "flywheel.yaml").privacy
    assert (str(privacy.names_file), privacy.phone_regions) == ("names.txt", ["US", "GB", "DE"])


@pytest.mark.parametrize("name", ["HuggingFaceTB/SmolLM2-135M-Instruct", "org/model@v1.0"])
def test_a_hugging_face_id_is_a_model(tmp_path, name):
    answers = collect({"model": name}, tmp_path)
    assert yaml.safe_load(render(answers)["flywheel.yaml"])["first_model"] == name


def test_sizes_follow_the_model_folder(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text(json.dumps({"max_position_embeddings": 1_024}))
    rendered = yaml.safe_load(render(Answers(model=str(tmp_path / "model")))["flywheel.yaml"])
    assert rendered["engine"]["max_model_len"] == rendered["training"]["max_length"] == 1_024
    assert rendered["gateway"]["default_max_tokens"] == 256
    (tmp_path / "model/config.json").write_text(json.dumps({"max_position_embeddings": 131_072}))
    assert (
        yaml.safe_load(render(Answers(model=str(tmp_path / "model")))["flywheel.yaml"])["engine"]["max_model_len"]
        == 2_048
    )


def test_a_second_init_changes_nothing_and_keeps_what_was_edited(tmp_path):
    write(tmp_path, Answers(flow="mine", schedule="daily"))
    assert collect({}, tmp_path) == Answers(flow="mine", schedule="daily")
    assert set(write(tmp_path, collect({}, tmp_path)).values()) == {"unchanged"}
    edited = (tmp_path / "flywheel.yaml").read_text().replace("new_examples: 200", "new_examples: 7")
    (tmp_path / "flywheel.yaml").write_text(edited)
    (tmp_path / "examples/client.py").unlink()
    done = write(tmp_path, collect({}, tmp_path))
    assert (done["flywheel.yaml"], done["examples/client.py"], done["README.md"]) == ("kept", "written", "unchanged")
    assert (tmp_path / "flywheel.yaml").read_text() == edited
    assert write(tmp_path, collect({}, tmp_path), force=True)["flywheel.yaml"] == "replaced"
    assert load(FlywheelConfig, tmp_path / "flywheel.yaml").cadence.new_examples == 200


@pytest.mark.parametrize(
    ("before", "action", "after"),
    [
        (None, "written", ".flywheel/\n"),
        ("*.pyc", "extended", "*.pyc\n.flywheel/\n"),
        ("*.pyc\n.flywheel/\n", "unchanged", "*.pyc\n.flywheel/\n"),
        ("", "extended", ".flywheel/\n"),
    ],
)
def test_secrets_are_never_committed_and_an_ignore_file_is_never_replaced(tmp_path, before, action, after):
    if before is not None:
        (tmp_path / ".gitignore").write_text(before)
    assert write(tmp_path, Answers(), force=True)[".gitignore"] == action
    assert (tmp_path / ".gitignore").read_text() == after


def test_questions_are_asked_for_what_no_flag_says_and_again_after_a_mistake(tmp_path):
    asked, replies = [], iter(["Bad Name", "support", "s3://b", "weird", "evaluation", "sometimes", "daily"])

    def prompt(question, default):
        asked.append(question)
        return next(replies)

    answers = collect({"model": "tiny"}, tmp_path, prompt)
    assert answers == Answers("support", "tiny", "s3://b", "evaluation", "daily")
    assert [question.splitlines()[-1].split()[0] for question in asked] == [
        "Name", "Name", "Lake:", "What", "What", "A", "A",
    ]  # fmt: skip
    assert "'flow'" in asked[1]
    assert "'weird' is no purpose" in asked[4]


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ({"flow": "Bad Name"}, "'flow'"),
        ({"model": "./nowhere"}, "no folder ./nowhere"),
        ({"lake": "gs://bucket"}, "neither 'local', a folder, nor s3"),
        ({"consent": "everything"}, "'everything' is no purpose"),
        ({"schedule": "often"}, "none, daily, weekly or five cron fields"),
    ],
)
def test_a_flag_that_cannot_be_used_is_an_error(tmp_path, flag, said):
    with pytest.raises(UsageError, match=said):
        collect(flag, tmp_path)


def test_a_model_folder_is_written_down_absolutely(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    assert collect({"model": "model"}, tmp_path).model == str(tmp_path / "model")
    with pytest.raises(UsageError):
        collect({"model": "./other/model"}, tmp_path)


@pytest.fixture
def gateway(tmp_path):
    with served_gateway(tmp_path / "home") as served:
        yield served


@pytest.mark.parametrize("command", [["client.py", "hi", "--wrong", "no"], ["client.py"], ["request.sh"]])
def test_the_examples_work_against_a_gateway(tmp_path, gateway, command):
    write(tmp_path, Answers())
    interpreter = "bash" if command[0].endswith(".sh") else sys.executable
    done = subprocess.run(
        [interpreter, tmp_path / "examples" / command[0], *command[1:]],
        capture_output=True, text=True, timeout=60, env={**os.environ, "FLYWHEEL_URL": gateway.url},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert ("HI" if len(command) > 1 else "MY ORDER NEVER ARRIVED") in done.stdout
    assert gateway.rows("inference")[-1]["consent"] == ["training", "evaluation"]
    assert gateway.rows("feedback")[-1]["kind"] == ("correction" if len(command) > 1 else "thumbs")
