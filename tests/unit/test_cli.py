"""The command line as a user meets it: a process of its own, its exit code and what it prints."""

import json
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
        (["turn"], "no live model"),
        (["import", "missing.jsonl"], "missing.jsonl"),
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
        "from flywheel import cli\n"
        "real = cli._load\n"
        "cli._load = lambda *a: (os.write(1, b'chatter of a child process\\n'), print('chatter'), real(*a))[2]\n"
        "cli.main()\n"
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
