"""The command line as a user meets it: a process of its own, its exit code and what it prints."""

import json
import os
import pty
import subprocess
import sys

import pytest


def flywheel(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-c", "from flywheel.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
    )


def test_help_imports_nothing_heavy(tmp_path):
    code = (
        "import sys\nsys.argv=['flywheel','--help']\nfrom flywheel.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('ray','torch','vllm','pyarrow','mlflow','transformers','numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert "turn" in done.stdout
    assert done.stdout.strip().endswith("[]")


def test_a_typo_in_a_setting_is_a_usage_error(tmp_path):
    done = flywheel("config", "--set", "training.epoch=2", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip() == "error: defaults: unknown key 'training.epoch'; did you mean 'epochs'?"


def test_an_unknown_command_is_a_usage_error(tmp_path):
    assert flywheel("tun", cwd=tmp_path).returncode == 2


def test_status_of_nothing_as_json(tmp_path):
    done = flywheel("status", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["live"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["up"], "flywheel up --model"),
        (["rollback", "--reason", "x"], "no live model"),
        (["evaluate", "--model", "nothing", "--suite", "random"], "neither a registered version, nor a model folder"),
        (["report"], "come to a verdict"),
        (["approve", "v2", "--reason", "fine"], "No turn of 'triage' has a candidate 'v2'"),
        (["turn"], "no live model"),
        (["canary", "start", "v2", "--reason", "x"], "no live model"),
        (["canary", "stop", "v2", "--reason", " "], "Say why"),
        (["import", "missing.jsonl"], "missing.jsonl"),
        (["label", "--annotator", "ann", "--second", "--curated"], "Choose one of"),
        (["labels", "export", "--out", "x.json", "--format", "excel"], "argilla, label-studio"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_exit_code_2(tmp_path, arguments, said):
    done = flywheel(*arguments, cwd=tmp_path)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 2


def test_down_without_anything_running(tmp_path):
    done = flywheel("down", cwd=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, "nothing was running")


GOOD = {"flow": "triage", "user": "a", "messages": [{"role": "user", "content": "x"}], "response": "y", "consent": []}
BAD = {**GOOD, "feedback": [{"kind": "applause"}]}


def write_lines(path, *lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_bad_import_line_is_listed_and_the_rest_is_stored(tmp_path):
    write_lines(tmp_path / "logs.jsonl", GOOD, BAD)
    done = flywheel("import", "logs.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 interactions, 1 rejected" in done.stdout
    assert "logs.jsonl, line 2, field 'feedback.0.kind'" in done.stdout
    again = flywheel("import", "logs.jsonl", "--json", "--rejects", "bad.jsonl", cwd=tmp_path)
    report = json.loads(again.stdout)
    assert (report["lines"], report["inferences"], report["duplicates"], report["rejected"]) == (2, 0, 1, 1)
    assert json.loads((tmp_path / "bad.jsonl").read_text())["line"] == 2


def test_a_strict_import_names_file_line_and_field_and_stores_nothing(tmp_path):
    write_lines(tmp_path / "logs.jsonl", GOOD, BAD)
    done = flywheel("import", "logs.jsonl", "--strict", cwd=tmp_path)
    assert done.returncode == 2
    assert "logs.jsonl, line 2, field 'feedback.0.kind'" in done.stderr
    assert flywheel("status", "--json", cwd=tmp_path).stdout.count('"captured": 0') == 1


def test_with_json_nothing_else_reaches_standard_output(tmp_path):
    code = (
        "import os, sys; sys.argv = ['flywheel', 'status', '--json', '--set', 'home=' + sys.argv[1]]\n"
        "from flywheel.cli import main, service\n"
        "real = service.load_config\n"
        "chat = lambda: (os.write(1, b'chatter of a child process\\n'), print('chatter'))\n"
        "service.load_config = lambda *a: (chat(), real(*a))[1]\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["live"] is None
    assert done.stderr.count("chatter") == 2


def test_an_import_without_a_good_line_fails(tmp_path):
    write_lines(tmp_path / "logs.jsonl", BAD)
    done = flywheel("import", "logs.jsonl", "--json", cwd=tmp_path)
    assert done.returncode == 1
    assert json.loads(done.stdout)["rejected"] == 1
    assert "every line was rejected" in done.stderr


def test_what_is_imported_can_be_exported(tmp_path):
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    write_lines(tmp_path / "chat.jsonl", {"messages": messages})
    done = flywheel("import", "chat.jsonl", "--format", "openai", "--consent", "training", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = flywheel("export", "inferences", "--out", "back.jsonl", "--format", "chat", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == 1
    assert json.loads((tmp_path / "back.jsonl").read_text()) == {"messages": messages}
    done = flywheel("export", "inference", "--out", "no.jsonl", cwd=tmp_path)
    assert (done.returncode, "Did you mean 'inferences'" in done.stderr) == (2, True)


def test_from_init_to_what_is_missing(tmp_path):
    made = flywheel("init", "shop", "--flow", "shop", "--schedule", "daily", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert "written    shop/flywheel.yaml" in made.stdout
    assert "cd shop && flywheel up" in made.stdout
    again = flywheel("init", "--json", cwd=tmp_path / "shop")
    assert set(json.loads(again.stdout)["files"].values()) == {"unchanged"}
    state = json.loads(flywheel("status", "--json", cwd=tmp_path / "shop").stdout)
    assert (state["flow"], state["running"], state["readiness"]["ready"]) == ("shop", None, False)
    assert {"name", "have", "need", "done", "next", "ideal"} == set(state["readiness"]["items"][0])
    shown = flywheel("status", cwd=tmp_path / "shop").stdout
    assert "Until a turn is worth it" in shown
    assert "0 of 500, better 1,000" in shown


@pytest.mark.parametrize("flag", [["--flow", "Bad Name"], ["--lake", "gs://x"], ["--consent", "all"]])
def test_init_with_a_wrong_flag_writes_nothing(tmp_path, flag):
    done = flywheel("init", *flag, cwd=tmp_path)
    assert (done.returncode, list(tmp_path.iterdir())) == (2, [])
    assert done.stderr.startswith("error: ")


def test_not_due_has_an_exit_code_of_its_own_and_run_if_due_is_content(tmp_path):
    asked = flywheel("due", "--json", cwd=tmp_path)
    assert asked.returncode == 3
    assert json.loads(asked.stdout)["due"] is False
    assert json.loads(asked.stdout)["waiting"][0]["name"] == "live model"
    told = flywheel("due", cwd=tmp_path)
    assert (told.returncode, told.stdout.splitlines()[0]) == (3, "not due")
    done = flywheel("run", "--if-due", cwd=tmp_path)
    assert (done.returncode, done.stdout.startswith("not due: live model")) == (0, True)
    done = flywheel("run", "--if-due", "--json", cwd=tmp_path)
    assert (done.returncode, json.loads(done.stdout)["turn"]) == (0, None)


@pytest.mark.parametrize("arguments", [["run"], ["run", "--every", "soon"]])
def test_run_needs_to_know_when(tmp_path, arguments):
    done = flywheel(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr.startswith("error: ")) == (2, True)


def test_run_every_asks_with_the_same_configuration_until_it_is_stopped(tmp_path):
    assert flywheel("init", "--flow", "shop", cwd=tmp_path).returncode == 0
    (tmp_path / "flywheel.yaml").rename(tmp_path / "shop.yaml")
    command = [sys.executable, "-m", "flywheel", "run", "--every", "1s", "-c", "shop.yaml", "-s", "cadence.every=none"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        lines = [process.stdout.readline() for _ in range(2)]
        process.terminate()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert all(line.startswith("not due: live model") and line.endswith("calendar: none\n") for line in lines)
    upkeep, stopped = errors.splitlines()
    assert upkeep.startswith("✓ maintain"), "once a day"
    assert stopped == "stopped"


def test_the_json_of_scheduled_runs_is_on_standard_output(tmp_path):
    code = (
        "import subprocess, sys; sys.argv = ['flywheel', 'run', '--every', '1h', '--json']\n"
        "from flywheel.cli import main\n"
        "from flywheel.operate import scheduler\n"
        "scheduler.run_every = lambda *_, say, stdout: subprocess.run(['echo', '{}'], stdout=stdout, check=True)\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert (done.stdout, done.stderr) == ("{}\n", "")


def test_up_and_turn_take_the_configured_first_model_only_while_nothing_is_live(tmp_path, monkeypatch):
    from flywheel.config import FlywheelConfig, load
    from flywheel.demo import models
    from flywheel.lake.tables import open_lake
    from flywheel.rollout import routing
    from flywheel.telemetry import Silent

    monkeypatch.setattr(models, "first_model", lambda config, name, progress: f"built {name}")
    config = load(FlywheelConfig, overrides={"home": str(tmp_path), "first_model": "tiny"})
    assert models.starting_model(config, None, Silent()) == "built tiny"
    assert models.starting_model(config, "other", Silent()) == "built other"
    assert models.starting_model(config.model_copy(update={"first_model": None}), None, Silent()) is None
    variant = routing.Variant(version="v1", folder="/m")
    routing.publish(open_lake(config).store, routing.bootstrap("triage", variant, actor="test"))
    assert models.starting_model(config, None, Silent()) is None
    assert models.starting_model(config, "other", Silent()) == "built other"


def test_forget_asks_and_without_a_terminal_wants_to_be_told(tmp_path):
    done = flywheel("forget", "--user", "ann", cwd=tmp_path)
    assert done.returncode == 2
    assert "pass --yes or --dry-run" in done.stderr
    assert not (tmp_path / ".flywheel").exists()


def test_forget_shows_removes_and_says_when_it_did_already(tmp_path):
    line = {"flow": "triage", "user": "ann", "ts": "2026-01-01T00:00:00Z", "response": "y", "consent": ["training"],
            "messages": [{"role": "user", "content": "x"}]}  # fmt: skip
    (tmp_path / "logs.jsonl").write_text(json.dumps(line) + "\n" + json.dumps({**line, "user": "ben"}) + "\n")
    assert flywheel("import", "logs.jsonl", cwd=tmp_path).returncode == 0
    seen = flywheel("forget", "--user", "ann", "--dry-run", cwd=tmp_path)
    assert (seen.returncode, seen.stderr) == (0, "")
    assert "Would be removed" in seen.stdout
    done = json.loads(flywheel("forget", "--user", "ann", "--yes", "--json", cwd=tmp_path).stdout)
    assert done["removed"]["inferences"] == 1
    again = flywheel("forget", "--user", "ann", "--yes", cwd=tmp_path)
    assert again.returncode == 0
    assert "Nothing of this person is stored." in again.stdout
    assert "was erased already" in again.stdout
    assert "inferences" in again.stderr
    assert json.loads(flywheel("status", "--json", cwd=tmp_path).stdout)["funnel"]["captured"] == 1


def test_forget_takes_no_for_an_answer(tmp_path):
    (tmp_path / ".flywheel/lake/landing").mkdir(parents=True)
    (tmp_path / ".flywheel/lake/landing/something").touch()
    controller, terminal = pty.openpty()
    os.write(controller, b"n\n")
    done = subprocess.run(
        [sys.executable, "-c", "from flywheel.cli import main; main()", "forget", "--user", "ann"],
        stdin=terminal, capture_output=True, text=True, timeout=60, cwd=tmp_path,
    )  # fmt: skip
    assert "Remove this for good?" in done.stdout
    assert not list((tmp_path / ".flywheel" / "lake").rglob("erasures"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--candidate", "v2"], "either --suite NAME or --shadow"),
        (["calibrate", "--mode", "sideways"], "pairwise and pointwise"),
        (["calibrate"], "there is no judge"),
        (["calibrate", "--set", "judging.backend=endpoint"], "judging.model"),
    ],
)
def test_a_judge_that_cannot_be_asked_is_a_usage_error(tmp_path, arguments, said):
    done = flywheel("judge", *arguments, cwd=tmp_path)
    assert said in done.stderr
    assert done.returncode == 2


def test_the_status_of_no_judge(tmp_path):
    done = flywheel("judge", "status", "--json", cwd=tmp_path)
    assert (done.returncode, json.loads(done.stdout)["judge"]) == (0, None), done.stderr
